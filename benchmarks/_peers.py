"""DSPy and dspy_actors as the benchmarks run them: one program, `question -> answer`, against the stub.

DSPy runs at its defaults, caches off, its price map read from the package instead of the network.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _stub import installed

KNOWN, UNKNOWN = "openai/gpt-4o-mini", "openai/stub"
"""A model of DSPy's price map, and one that it searches the map for on every call."""


def load_dspy() -> Any:
    """The DSPy module with its caches off, or `None` where it is not installed."""
    if not installed("dspy"):
        return None
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
    os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="benchmark-"))
    import dspy

    logging.getLogger("dspy").setLevel(logging.WARNING)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return dspy


def dspy_program(dspy: Any, base_url: str, model: str) -> Callable[..., Any]:
    """`Predict("question -> answer")` with an LM of its own at `base_url`."""
    program = dspy.Predict("question -> answer")
    program.set_lm(dspy.LM(model, api_base=base_url, api_key="x", cache=False))
    return program  # type: ignore[no-any-return]


def transports() -> list[str]:
    """Our transports that can run here."""
    return ["httpx", "aiohttp"] if installed("aiohttp") else ["httpx"]


@contextmanager
def our_program(base_url: str, transport: str) -> Iterator[Any]:
    """The same program on a runtime with `transport`, started; closed on leaving."""
    from dspy_actors import LM, Predict, Runtime

    lm = LM(UNKNOWN, base_url=base_url, api_key="x", cache=False)
    with Runtime(lm=lm, transport=transport) as runtime:
        yield runtime.start(Predict("question -> answer"))
