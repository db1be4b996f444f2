"""What `dspy-actors lm health` does: one look at a model's server, in words and as JSON."""

from __future__ import annotations

import asyncio
import json

from dspy_actors.cli.failures import is_hopeless, is_unreachable, one_line
from dspy_actors.errors import LMError
from dspy_actors.lm.checkup import Checkup, check
from dspy_actors.lm.lm import LM
from dspy_actors.lm.providers.opening import opener
from dspy_actors.lm.providers.set_aside import SetAside


def look(model: str, base_url: str | None, seconds: float) -> Checkup:
    """Ask the server of `model`. Raises an `LMError` for what waiting does not mend: its name, its key, no such API."""
    lm = LM(model, base_url=base_url)
    found = asyncio.run(check(lm, opener("auto", SetAside()), seconds))
    if found.state == "failed" and (is_hopeless(found.error) or is_unreachable(found.error)):
        assert found.error is not None
        raise found.error
    return found


def as_json(found: Checkup) -> str:
    """All of it as one JSON object."""
    error = found.error.to_wire() if isinstance(found.error, LMError) else None
    return json.dumps(
        {
            "model": found.model,
            "endpoint": found.endpoint,
            "state": found.state,
            "listed": found.listed,
            "key": found.key_id,
            "milliseconds": None if found.seconds is None else round(found.seconds * 1000, 1),
            "error": error,
        }
    )


def as_text(found: Checkup) -> str:
    """One line for people."""
    if found.endpoint is None:
        return f"{found.model}  {found.state}  runs in this process: no server, no key"
    parts = [f"{found.model} at {found.endpoint}", found.state]
    if found.seconds is not None:
        parts.append(f"{found.seconds * 1000:.0f} ms")
    parts.append("no key" if found.key_id is None else f"key {found.key_id}")
    if found.error is not None:
        parts.append(one_line(found.error))
    elif found.listed is False:
        parts.append("the server does not list this model")
    elif found.state == "reachable":
        parts.append("the server has no list of models; if calls fail check --base-url")
    return "  ".join(parts)
