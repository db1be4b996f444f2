"""`Truncations`: tells of answers that the provider cut off; `in_words` says what cut one off, and what to do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from dspy_actors.messages import LMResponse, Truncation
from supervisors.published_lock import PublishedLock
from supervisors.telemetry import Event, Telemetry

TRUNCATED: Event = ("lm", "truncated")
"""Event of an answer that was cut off: measurements {}, metadata `model`, `call_id`, `reason` (`length` or
`content_filter`) and `limit`, the tokens that its request allowed it, `None` where it did not say."""

AGAIN_SECONDS = 3600.0
"""So long the log says nothing more of a model's answers that were cut off for the same reason."""

KEPT = 1000
"""So many models and reasons are remembered; of more, those told of first are forgotten, and may be told of anew."""


class Told(Protocol):
    """Takes a line for the log."""

    def __call__(self, name: str, reason: str, limit: int | None, count: int) -> object: ...


class Truncations:
    """An event for each such answer; in the log one line for each model and reason, and after an hour another one.

    A line has the `count` of answers since the one before it. Published. Safe from any thread; `tell` must not block.
    """

    def __init__(self, telemetry: Telemetry, tell: Told, now: Callable[[], float]) -> None:
        self._telemetry = telemetry
        self._tell = tell
        self._now = now
        self._lock = PublishedLock()
        self._told: OrderedDict[tuple[str, Truncation], float] = OrderedDict()
        self._untold: dict[tuple[str, Truncation], int] = {}

    def note(self, name: str, model: str, call_id: str, response: LMResponse, limit: int | None) -> None:
        """`model`, which the log calls `name`, gave a `response` that was cut off; it was allowed `limit` tokens."""
        reason = response.truncated
        assert reason is not None
        count = self._due((name, reason))
        if count:
            self._tell(name, in_words(reason, response, limit), limit, count)
        about = {"model": model, "call_id": call_id, "reason": reason, "limit": limit}
        self._telemetry.execute(TRUNCATED, {}, about)

    def _due(self, key: tuple[str, Truncation]) -> int:
        """One answer more: of how many a line is due now, 0 where there is none."""
        with self._lock:
            now, before = self._now(), self._told.get(key)
            count = self._untold.get(key, 0) + 1
            if before is not None and now - before < AGAIN_SECONDS:
                self._untold[key] = count
                return 0
            self._untold.pop(key, None)
            self._told[key] = now
            self._told.move_to_end(key)
            if len(self._told) > KEPT:
                self._untold.pop(self._told.popitem(last=False)[0], None)
            return count


def in_words(reason: Truncation, response: LMResponse, limit: int | None) -> str:
    """What cut `response` off, which was allowed `limit` tokens, and what to do: `cut off at …; raise it or …`."""
    if reason == "content_filter":
        return "cut off by the provider's content filter; ask for something else"
    usage = response.usage if len(response.texts) == 1 else None  # of several, who knows which has used how much
    thought = 0 if usage is None else usage.reasoning_tokens
    spent = f" ({thought} tokens of it went into reasoning)" if thought else ""
    if limit is not None:
        return f"cut off at its limit of tokens, max_tokens={limit}{spent}; raise that or ask for less"
    after = f" after {usage.completion_tokens} tokens" if usage is not None and usage.completion_tokens else ""
    return f"cut off{after} by a default limit of tokens{spent}; set a larger max_tokens, or shorten the prompt"
