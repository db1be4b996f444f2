"""DSPy's programming model as a supervised actor system."""
