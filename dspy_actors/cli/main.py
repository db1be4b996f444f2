"""`dspy-actors`: the command line. Wrong usage, data, keys and servers end in one line and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from dspy_actors.cli.failures import BROKEN_PIPE, EXPECTED, INTERRUPTED, USAGE, one_line
from dspy_actors.cli.stopping import Hurry, Stopping
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.lm import LM

_LM_HELP = "The model, as provider/name: embedded/knn (no network), openai/gpt-4o-mini, or any name with --base-url."
_URL_HELP = "The server, for every one that speaks OpenAI's chat completions: http://localhost:8000/v1."

_PATH = click.Path(path_type=Path)
_SECONDS = click.FloatRange(min=0, min_open=True)
_CONCURRENCY = click.IntRange(min=1)
_CONCURRENCY_HELP = "Rows under way at once."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("dspy-actors"), prog_name="dspy-actors")
def commands() -> None:
    """Language-model programs on a supervision tree."""


def lm_options(function: Any) -> Any:
    """The options that say which model to ask."""
    for option in (
        click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens an answer may have."),
        click.option("--temperature", type=float, help="Sampling temperature."),
        click.option("--base-url", help=_URL_HELP),
        click.option("--lm", "lm_name", default="embedded/knn", show_default=True, help=_LM_HELP),
    ):
        function = option(function)
    return function


@commands.command(short_help="Evaluate a program, optimize it, evaluate it again.")
@lm_options
@click.option("--data", type=_PATH, help="Labelled rows of your own, .jsonl or .csv, instead of support tickets.")
@click.option("--signature", help="Inputs and labels of --data, as 'text -> label'; guessed if left out.")
@click.option("--out", type=_PATH, default=Path("optimized.json"), show_default=True, help="The optimized program.")
@click.option("--concurrency", type=_CONCURRENCY, default=32, show_default=True, help=_CONCURRENCY_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def demo(data: Path | None, signature: str | None, out: Path, concurrency: int, as_json: bool, **lm: Any) -> int:
    """Evaluate a program, optimize it, evaluate it again, and crash a worker on the way.

    Exit code 1 means that rows were lost or an evaluation stayed incomplete.
    """
    from dspy_actors.cli import demo as command

    return _stoppable(lambda stopping: command.demo(_lm(**lm), data, signature, out, concurrency, as_json))


@commands.command(short_help="Run a program over the rows of a file.")
@click.argument("program")
@lm_options
@click.option("--data", type=_PATH, required=True, help="The rows, .jsonl or .csv.")
@click.option("--out", type=_PATH, required=True, help="Where results go, one JSON object a row; overwritten.")
@click.option("--signature", help="What a saved PROGRAM takes and gives, as 'question -> answer'.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option("--concurrency", type=_CONCURRENCY, default=16, show_default=True, help=_CONCURRENCY_HELP)
@click.option("--deadline", type=_SECONDS, default=600.0, show_default=True, help="Seconds a row may take.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def run(program: str, data: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Run PROGRAM over the rows of a file.

    PROGRAM is a signature ("ticket -> category, urgency"), a saved .json file with --signature, or
    package.module:attribute. Each line of --out has a row's index, the row, and its outputs or its error; the summary
    counts the rows that failed, and where all of them did the exit code is 1. Ctrl-C finishes the rows under way and
    keeps what is done.
    """
    from dspy_actors.cli import run as command

    lm = _lm(**{name: options.pop(name) for name in ("lm_name", "base_url", "temperature", "max_tokens")})
    plan = command.RunPlan(program=program, data=data, out=out, lm=lm, as_json=as_json, **options)

    def job(stopping: Stopping) -> int:
        summary = command.run(plan, stopping)
        click.echo(command.summary_json(summary) if as_json else command.summary_text(summary))
        return 0 if summary["succeeded"] else 1

    return _stoppable(job)


def _lm(lm_name: str, base_url: str | None, temperature: float | None, max_tokens: int | None) -> LM:
    lm = LM(lm_name, base_url=base_url)
    if base_url is not None and lm.provider == "embedded":
        msg = f"--base-url {base_url} goes with --lm openai/MODEL; {lm_name} asks no server"
        raise LMConfigurationError(msg, model=lm_name)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    return lm.copy(**{name: value for name, value in options.items() if value is not None})


def _stoppable(job: Callable[[Stopping], int]) -> int:
    """Run `job`; where Ctrl-C or SIGTERM came the exit code is 130 or 143."""
    with Stopping() as stopping:
        try:
            code = job(stopping)
        except Hurry:
            click.echo("dspy-actors: stopped", err=True)
    return stopping.exit_code or code


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; always ends in `SystemExit`."""
    try:
        code = commands.main(arguments, prog_name="dspy-actors", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except EXPECTED as error:
        click.echo(f"dspy-actors: {one_line(error)}", err=True)
        sys.exit(USAGE)
    sys.exit(code or 0)
