"""Public helpers for the tests of programs, providers and transports."""
