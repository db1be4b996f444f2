"""`python -m dspy_actors`: the same as the console script."""

from dspy_actors.cli.main import main

if __name__ == "__main__":
    main()
