"""`dspy-actors`: the command line. Wrong usage, data, keys and servers end in one line and exit code 2."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from dspy_actors.cli.failures import EXPECTED, USAGE, one_line
from dspy_actors.lm.lm import LM

_LM_HELP = "The model, as provider/name: embedded/knn (no network), openai/gpt-4o-mini, or any name with --base-url."
_URL_HELP = "The server, for every one that speaks OpenAI's chat completions: http://localhost:8000/v1."

_CONCURRENCY_HELP = "Rows under way at once."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


@commands.command()
@lm_options
@click.option("--data", type=click.Path(path_type=Path), help="Labelled rows of your own, .jsonl or .csv.")
@click.option("--signature", help="Inputs and labels of --data, as 'text -> label'; guessed if left out.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("optimized.json"), show_default=True)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=32, show_default=True, help="Rows under way at once."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def demo(data: Path | None, signature: str | None, out: Path, concurrency: int, as_json: bool, **lm: Any) -> int:
    """Evaluate a program, optimize it, evaluate it again, and crash a worker on the way."""
    from dspy_actors.cli import demo as command

    return _stoppable(lambda: command.demo(_lm(**lm), data, signature, out, concurrency, as_json))


@commands.command()
@click.argument("program")
@lm_options
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The rows, .jsonl or .csv.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where results go, one JSON object a row.")
@click.option("--signature", help="The signature of a saved PROGRAM.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=16, show_default=True, help="Rows under way at once."
)
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def run(program: str, data: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Run PROGRAM over the rows of a file.

    PROGRAM is a signature ("ticket -> category, urgency"), a saved .json file with --signature, or
    package.module:attribute. Ctrl-C finishes the rows under way and keeps what is done.
    """
    from dspy_actors.cli import run as command

    lm = _lm(**{name: options.pop(name) for name in ("lm_name", "base_url", "temperature", "max_tokens")})
    plan = command.RunPlan(program=program, data=data, out=out, lm=lm, as_json=as_json, **options)
    summary, code = command.run(plan)
    click.echo(command.summary_json(summary) if as_json else command.summary_text(summary))
    return code


def _lm(lm_name: str, base_url: str | None, temperature: float | None, max_tokens: int | None) -> LM:
    lm = LM(lm_name, base_url=base_url)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    return lm.copy(**{name: value for name, value in options.items() if value is not None})


def _stoppable(job: Any) -> int:
    """Run `job`; Ctrl-C and SIGTERM end it through its `finally` blocks, with exit code 130 or 143."""
    from dspy_actors.cli.stopping import Hurry, Stopping

    with Stopping(drains=False) as stopping:
        try:
            code: int = job()
        except Hurry:
            click.echo("dspy-actors: stopped", err=True)
            return stopping.exit_code
    return code


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; always ends in `SystemExit`."""
    try:
        code = commands.main(arguments, prog_name="dspy-actors", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except EXPECTED as error:
        click.echo(f"dspy-actors: {one_line(error)}", err=True)
        sys.exit(USAGE)
    sys.exit(code or 0)
