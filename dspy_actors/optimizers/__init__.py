"""Optimizers: each takes a program and training rows and returns a better program."""
