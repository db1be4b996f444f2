"""`tell`: a line on standard error, which may have no reader any more."""

from __future__ import annotations

from contextlib import suppress

import click


def tell(text: str) -> None:
    """Say `text` on standard error. Where nobody reads that any more, for the terminal was closed, the job goes on."""
    with suppress(OSError):
        click.echo(text, err=True)
