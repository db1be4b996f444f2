"""`dspy-actors quarantine`: look at what a service has set aside, and let it go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dspy_actors.cli.options import PATH, SECONDS, SIGNATURE_HELP, named_lm_of, own_lm_options, stoppable

_FILE = click.option(
    "--file", "path", type=PATH, required=True, help="The service's file: QuarantineSettings(path=...)."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead, one object a line.")


@click.group(short_help="List, show, release, replay and export inputs that a service has set aside.")
def quarantine() -> None:
    """Inputs that break things, which a service has set aside in a file.

    ENTRY is an entry's id, or as much of its beginning as tells it from the others. A running service notices a release
    within two seconds.
    """


@quarantine.command("list", short_help="What is set aside.")
@_FILE
@click.option("--program", help="Only entries of this program.")
@click.option("--tenant", help="Only entries of this tenant.")
@_JSON
def list_(path: Path, program: str | None, tenant: str | None, as_json: bool) -> int:
    """List the entries, one a line, the oldest first."""
    from dspy_actors.cli import quarantine as command

    with command.Filed(path) as filed:
        entries = [
            entry for entry in filed.entries() if program in (None, entry.program) and tenant in (None, entry.tenant)
        ]
    click.echo(command.lines(entries) if as_json else command.table(entries), nl=not as_json)
    return 0


@quarantine.command(short_help="All that is known of one entry.")
@click.argument("entry")
@_FILE
@_JSON
def show(entry: str, path: Path, as_json: bool) -> int:
    """Show ENTRY: whose it is, what failed how often, until when it is set aside, and a preview of its input."""
    from dspy_actors.cli import quarantine as command

    with command.Filed(path) as filed:
        found = filed.find(entry)
    click.echo(command.lines([found]) if as_json else command.card(found), nl=not as_json)
    return 0


@quarantine.command(short_help="Let calls with these inputs through again.")
@click.argument("entries", nargs=-1, required=True, metavar="ENTRY...")
@_FILE
def release(entries: tuple[str, ...], path: Path) -> int:
    """Release each ENTRY: calls with its input are let through again, with nothing remembered against it."""
    from dspy_actors.cli import quarantine as command

    with command.Filed(path) as filed:
        for entry in filed.release(entries):
            click.echo(f"released {entry.id} of {entry.program}")
    return 0


@quarantine.command(short_help="Try an input on a mended program, and release it where it succeeds.")
@click.argument("entry")
@click.argument("program")
@_FILE
@click.option("--data", type=PATH, required=True, help="Rows, .jsonl or .csv, among them the input of ENTRY.")
@click.option("--signature", help=SIGNATURE_HELP)
@own_lm_options
@click.option("--deadline", type=SECONDS, default=600.0, show_default=True, help="Seconds the call may take.")
def replay(entry: str, program: str, path: Path, data: Path, signature: str | None, **options: Any) -> int:
    """Run the input of ENTRY on PROGRAM, which is given as for `dspy-actors run`.

    An entry holds no input, only its hash: the row of --data that has the same one is run. A success releases it;
    otherwise it stays, and the exit code is 1. Name with --lm the model that the service asks: what another one answers
    says nothing of it.
    """
    from dspy_actors.cli import quarantine as command

    lm = named_lm_of(options)
    plan = command.ReplayPlan(entry, program, path, data, signature, lm, options["deadline"])

    def job(stopping: object) -> int:
        text, is_released = command.replay(plan)
        click.echo(text)
        return 0 if is_released else 1

    return stoppable(job)


@quarantine.command(short_help="Write every entry as a line of JSON.")
@_FILE
@click.option("--out", type=PATH, help="Where they go; standard output if left out.")
def export(path: Path, out: Path | None) -> int:
    """Export the entries as JSON, one object a line, without inputs."""
    from dspy_actors.cli import quarantine as command

    with command.Filed(path) as filed:
        entries = filed.entries()
    if out is None:
        click.echo(command.lines(entries), nl=False)
    else:
        click.echo(f"{command.export(entries, out, path)} entries -> {out}")
    return 0
