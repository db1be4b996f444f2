"""Streams in other forms: DSPy's `streamify`, text for a web service, and stages with demand."""
