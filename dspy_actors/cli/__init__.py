"""The command line: `dspy-actors demo` and `dspy-actors run`."""
