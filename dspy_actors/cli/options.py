"""What commands have in common: how a model, a file and a number are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dspy_actors.cli.stopping import Hurry, Stopping
from dspy_actors.cli.telling import tell
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.lm import LM

F = TypeVar("F", bound=Callable[..., Any])

_LM_HELP = "The model, as provider/name: embedded/knn (no network), openai/gpt-4o-mini, or any name with --base-url."
URL_HELP = "The server, for every one that speaks OpenAI's chat completions: http://localhost:8000/v1."

PATH = click.Path(path_type=Path)
SECONDS = click.FloatRange(min=0, min_open=True)
CONCURRENCY = click.IntRange(min=1)
CONCURRENCY_HELP = "Rows under way at once."
SIGNATURE_HELP = "What a saved PROGRAM takes and gives, as 'question -> answer'."


def lm_options(function: F) -> F:
    """The options that say which model to ask, embedded/knn if they do not; `lm_of` takes them."""
    return _lm_options(function, default="embedded/knn", show_default=True, help=_LM_HELP)


def own_lm_options(function: F) -> F:
    """The same for a command that assumes no model; `named_lm_of` takes them."""
    return _lm_options(function, help=f"{_LM_HELP} Needed where PROGRAM brings no model of its own.")


def _lm_options(function: F, **lm: Any) -> F:
    for option in (
        click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens an answer may have."),
        click.option("--temperature", type=float, help="Sampling temperature."),
        click.option("--base-url", help=URL_HELP),
        click.option("--lm", "lm_name", **lm),
    ):
        function = option(function)
    return function


def lm_of(options: dict[str, Any]) -> LM:
    """The model that the options name; they are taken out of `options`. Raises `LMConfigurationError`."""
    lm_name, base_url = options.pop("lm_name"), options.pop("base_url")
    sampling = {name: options.pop(name) for name in ("temperature", "max_tokens")}
    lm = LM(lm_name, base_url=base_url)
    if base_url is not None and lm.provider == "embedded":
        msg = f"--base-url {base_url} goes with --lm openai/MODEL; {lm_name} asks no server"
        raise LMConfigurationError(msg, model=lm_name)
    return lm.copy(**{name: value for name, value in sampling.items() if value is not None})


def named_lm_of(options: dict[str, Any]) -> LM | None:
    """As `lm_of`; `None` where no model is named. Raises `LMConfigurationError` for what goes with a model then."""
    if options["lm_name"] is not None:
        return lm_of(options)
    for name in ("lm_name", "base_url", "temperature", "max_tokens"):
        if options.pop(name) is not None:
            msg = f"--{name.replace('_', '-')} goes with --lm PROVIDER/MODEL, which is not given"
            raise LMConfigurationError(msg)
    return None


def stoppable(job: Callable[[Stopping], int]) -> int:
    """Run `job`; after a signal the exit code is 128 and the signal's number."""
    with Stopping() as stopping:
        try:
            code = job(stopping)
        except Hurry:
            tell("dspy-actors: stopped")
    return stopping.exit_code or code
