"""The provider of the benchmarks: the tests' server, in a process of its own, answering DSPy's chat layout.

Importing this puts the repository on the path, so that `python benchmarks/x.py` finds `tests.server` in a clone.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import resource
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dspy_actors.lm.providers.wire import JSON_HEADERS
from tests.server.client import StubServer

__all__ = ["HEADERS", "LoopThread", "StubServer", "body_of", "cpu_seconds", "installed", "raise_file_limit", "stub"]

T = TypeVar("T")

_SYSTEM = """Input fields:
1. `question` (str)
Output fields:
1. `answer` (str)
Every exchange is laid out so:

[[ ## question ## ]]
{question}

[[ ## answer ## ]]
{answer}

[[ ## completed ## ]]
Your objective:
        Given the field `question`, produce the field `answer`."""
_USER = "[[ ## question ## ]]\n{}\n\nAnswer with the field `[[ ## answer ## ]]`, then `[[ ## completed ## ]]`."


@contextmanager
def stub(answer: str = "4") -> Iterator[StubServer]:
    """A running provider whose every answer fills the asked fields with `answer`."""
    raise_file_limit()
    with StubServer() as server:
        server.control(answer={"mode": "layout", "text": answer}, keep=1)
        yield server


HEADERS = {**JSON_HEADERS, "authorization": "Bearer x"}
"""What a bare transport's requests have, as those of a call do."""


def body_of(question: str, model: str = "stub") -> bytes:
    """The request that a program `question -> answer` makes, as the bare baselines send it."""
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _USER.format(question)}]
    return json.dumps({"model": model, "messages": messages}).encode()


def installed(module: str) -> bool:
    """Whether `module` can be imported here, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def cpu_seconds() -> float:
    """User and system time of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def raise_file_limit() -> None:
    """Let this process open as many sockets as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class LoopThread:
    """An asyncio loop in a thread, for baselines that a blocking caller drives through a loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="baseline-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop, block until it is done."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Stop the loop; returns when the thread is gone."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
