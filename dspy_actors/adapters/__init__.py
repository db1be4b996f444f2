"""Adapters: a signature, demonstrations and inputs to messages, and a completion back to typed outputs."""
