"""The words of the recorded logs, and the recordings themselves."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from supervisors.exits import Crash, Exit, Killed, NoProc, Normal, Shutdown
from supervisors.ref import Ref

RECORDED = Path(__file__).resolve().parent / "recorded"

BOOM = ValueError("boom")
CRASH = Crash(BOOM)
EXITS: dict[str, Exit] = {
    "normal": Normal(),
    "shutdown": Shutdown(),
    "shutdown done": Shutdown("done"),
    "crash": CRASH,
    "killed": Killed(),
}
"""Our exit for a recorded word."""

_OWN_DETAILS = {None, "max_restarts", "auto_shutdown"}
"""Details of `Shutdown` that OTP says with the plain `shutdown`."""


@cache
def _rows() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("erlang", "elixir"):
        found |= json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return found


def recorded(row: str) -> Any:
    """What real Erlang or Elixir did in the scenario of that row."""
    return _rows()[row]


def word(exit: Exit) -> str:
    """`exit` as the recordings say it."""
    match exit:
        case Normal():
            return "normal"
        case Shutdown(detail) if detail in _OWN_DETAILS:
            return "shutdown"
        case Shutdown(detail):
            return f"shutdown {detail}"
        case Crash():
            return "crash"
        case Killed():
            return "killed"
        case NoProc():
            return "noproc"


def down(ref: Ref[Any]) -> str:
    """Wait until the actor is dead; its exit as a word."""
    return word(ref.down().get(5))
