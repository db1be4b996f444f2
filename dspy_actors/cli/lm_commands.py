"""`dspy-actors lm`: look at a model as a program would find it."""

from __future__ import annotations

import click

from dspy_actors.cli.options import SECONDS, URL_HELP, stoppable


@click.group(short_help="Look at a model as a program would find it.")
def lm() -> None:
    """Models."""


@lm.command(short_help="Whether a model can be asked: its server, its key and its name.")
@click.argument("model")
@click.option("--base-url", help=URL_HELP)
@click.option("--timeout", type=SECONDS, default=10.0, show_default=True, help="Seconds to wait for the server.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def health(model: str, base_url: str | None, timeout: float, as_json: bool) -> int:
    """Ask the server of MODEL (provider/name) how it is, with the key a program would use. Costs no tokens.

    Exit code 0: it can be asked. 1: not now, or not for certain (nobody answers there, the server is loading or fails,
    it does not list the model, it has no list of models, as where --base-url lacks its /v1). 2: it cannot work so: no
    key, a refused key, an empty account, a URL that leads elsewhere. --json says which in "state" and "listed".
    """
    from dspy_actors.cli import lm_health as command

    def job(stopping: object) -> int:
        found = command.look(model, base_url, timeout)
        click.echo(command.as_json(found) if as_json else command.as_text(found))
        return 0 if found.is_ready else 1

    return stoppable(job)
