"""`dspy-actors`: the command line. Wrong usage, data, keys and servers end in one line and exit code 2.

So does a `run` that finds its model's server down before its first row has an answer, with exit code 75.
"""

from __future__ import annotations

import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from dspy_actors.cli.failures import BROKEN_PIPE, EXPECTED, INTERRUPTED, NOT_NOW, USAGE, is_temporary, one_line
from dspy_actors.cli.lm_commands import lm
from dspy_actors.cli.options import (
    CONCURRENCY,
    CONCURRENCY_HELP,
    PATH,
    SECONDS,
    SIGNATURE_HELP,
    lm_of,
    lm_options,
    stoppable,
)
from dspy_actors.cli.quarantine_commands import quarantine
from dspy_actors.cli.stopping import Stopping
from dspy_actors.cli.telling import tell
from dspy_actors.errors import LMError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("dspy-actors"), prog_name="dspy-actors")
def commands() -> None:
    """Language-model programs on a supervision tree."""


commands.add_command(quarantine)
commands.add_command(lm)


@commands.command(short_help="Evaluate a program, optimize it, evaluate it again.")
@lm_options
@click.option("--data", type=PATH, help="Labelled rows of your own, .jsonl or .csv, instead of support tickets.")
@click.option("--signature", help="Inputs and labels of --data, as 'text -> label'; guessed if left out.")
@click.option("--out", type=PATH, default=Path("optimized.json"), show_default=True, help="The optimized program.")
@click.option("--concurrency", type=CONCURRENCY, default=32, show_default=True, help=CONCURRENCY_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def demo(data: Path | None, signature: str | None, out: Path, concurrency: int, as_json: bool, **lm: Any) -> int:
    """Evaluate a program, optimize it, evaluate it again, and crash a worker on the way.

    Exit code 1 means that rows were lost or an evaluation stayed incomplete.
    """
    from dspy_actors.cli import demo as command

    return stoppable(lambda stopping: command.demo(lm_of(lm), data, signature, out, concurrency, as_json))


@commands.command(short_help="Run a program over the rows of a file.")
@click.argument("program")
@lm_options
@click.option("--data", type=PATH, required=True, help="The rows, .jsonl or .csv.")
@click.option("--out", type=PATH, required=True, help="Where results go, one JSON object a row.")
@click.option("--resume", is_flag=True, help="Go on with --out: rows with a prediction there are not asked again.")
@click.option("--overwrite", is_flag=True, help="Begin anew where --out is there already.")
@click.option("--cache", type=PATH, help="A file that keeps the model's answers, for this run and later ones.")
@click.option("--signature", help=SIGNATURE_HELP)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows.")
@click.option("--concurrency", type=CONCURRENCY, default=16, show_default=True, help=CONCURRENCY_HELP)
@click.option(
    "--deadline", type=SECONDS, default=600.0, show_default=True, help="Seconds a row may take, all waiting included."
)
@click.option("--strict", is_flag=True, help="Exit code 1 unless every row has an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def run(program: str, data: Path, out: Path, as_json: bool, strict: bool, **options: Any) -> int:
    """Run PROGRAM over the rows of a file.

    PROGRAM is a signature ("ticket -> category, urgency"), a saved .json file with --signature, or
    package.module:attribute. Each line of --out has a row's index, the row, and its outputs or its error; the summary
    counts the rows that failed, and where all that were asked did the exit code is 1: what came within --deadline were
    rate limits, nothing, or answers that cannot be read. With --strict it is 1 where any row has no answer. It is 2 for
    what is wrong from the start: a file, the key, a server that speaks something else; and 75 where the server cannot
    be reached or fails as the first rows ask it: nothing is written then, and the same command may do later. Ctrl-C
    gives the rows under way ten seconds and keeps what is done.

    An --out that is there already is refused without --resume or --overwrite. --resume goes on after an end of any
    kind, the process's being killed included: rows that failed and rows without a line are asked, in the file a row is
    known by its place in --data, and data that do not fit it are refused. Predictions of another program, model or
    options are kept and counted. While it runs it appends; at its end the file is in the order of the rows again.
    """
    from dspy_actors.cli import run as command

    if options["resume"] and options["overwrite"]:
        msg = "--resume goes on with --out and --overwrite begins it anew: give one of them"
        raise click.UsageError(msg)
    lm = lm_of(options)
    plan = command.RunPlan(program=program, data=data, out=out, lm=lm, as_json=as_json, **options)

    def job(stopping: Stopping) -> int:
        try:
            summary = command.run(plan, stopping)
        except LMError as error:
            if not is_temporary(error):
                raise
            tell(f"dspy-actors: the model cannot be asked now: {one_line(error)}")
            return NOT_NOW
        try:
            click.echo(command.summary_json(summary) if as_json else command.summary_text(summary))
        except OSError:
            if not stopping.asked:
                raise
            _forget_stdout()  # closed with the terminal, or with whoever got the signal too: the job has ended well
        return command.exit_code(summary, strict=strict)

    return stoppable(job)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; always ends in `SystemExit`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # servers say what no encoding holds, as half an emoji; stderr does so
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = commands.main(arguments, prog_name="dspy-actors", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        _forget_stdout()
        sys.exit(BROKEN_PIPE)
    except EXPECTED as error:
        tell(f"dspy-actors: {one_line(error)}")
        sys.exit(USAGE)
    sys.exit(code or 0)


def _forget_stdout() -> None:
    """What nobody took is not tried again as the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
