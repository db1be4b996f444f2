"""Signatures: what a program is given and what it produces."""
