"""`Outages`: what is to be written in the log of a provider's bad day, once a change and never once a call. Pure.

Answers that were cut off are told of in the same way, as often as `Truncations` says, and files of the cache that are
not used any more.

Published, and filled in the threads in which it happens; `OutageReporter` writes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dspy_actors.alerts import Level
from dspy_actors.lm.breaker import Breaker, State
from dspy_actors.lm.providers.set_aside import SECONDS, SetAsideKey

OPENED = "breaker.opened"
CLOSED = "breaker.closed"
SET_ASIDE = "key.set_aside"
PAUSED = "limiter.paused"
EVENTS = frozenset({OPENED, CLOSED, SET_ASIDE, PAUSED})
"""What the lines of a bad day are called."""

TRUNCATED = "answer.truncated"
"""What the line of an answer that was cut off is called."""

CACHE_SET_ASIDE = "cache.set_aside"
CACHE_LEFT_ALONE = "cache.left_alone"
"""What the lines of a cache file that is used no more are called: it was damaged, or is of another version."""

LONG_PAUSE = 10.0
"""Seconds from which a limiter's pause is worth a line."""

MOST = 1000
"""So many lines wait for a log that is slow; of more, the oldest are lost."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log, which holds no secret."""

    level: Level
    event: str
    fields: dict[str, object]


class Outages:
    """The lines that are not written yet. `wake` is called after each; it must not block. Safe from any thread."""

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self._wake = wake
        self._lines: deque[LogLine] = deque(maxlen=MOST)

    def changed(self, breaker: Breaker, before: State, after: State, now: float) -> None:
        """A breaker has changed: told when it opens and when it is closed again, and of no probe in between."""
        if after is State.CLOSED:
            self._add("info", CLOSED, name=breaker.name)
        elif after is State.FORCED_OPEN:
            self._add("warning", OPENED, name=breaker.name, reason="by hand")
        elif before is State.CLOSED:
            reading = breaker.reading(now)
            why, seconds = reading.last_failure or "it failed too often", _short(reading.retry_after)
            self._add("warning", OPENED, name=breaker.name, reason=why, seconds=seconds)

    def paused(self, name: str, before: float, pause: float, retry_after: float | None) -> None:
        """A 429 makes the limiter `name` pause for `pause` seconds, no longer for `before`: told if it is long now.

        Those refused together add little to a pause that was told of, and so are not.
        """
        if before < LONG_PAUSE <= pause:
            asked = "" if retry_after is None else f", come back in {_short(retry_after):g} s"
            self._add("warning", PAUSED, name=name, reason=f"429{asked}", seconds=_short(pause))

    def set_aside(self, key: SetAsideKey) -> None:
        """A key is used no more for a while."""
        error = key.error
        said = " ".join(str(word) for word in (error.status, error.provider_code) if word is not None)
        self._add(
            "warning",
            SET_ASIDE,
            name=key.endpoint,
            reason=f"{error.kind}{f': {said}' if said else ''}",
            key=key.key_id,
            model=error.model,
            seconds=SECONDS,
        )

    def truncated(self, name: str, reason: str, limit: int | None, count: int) -> None:
        """The model `name` has given `count` answers that were cut off, the last of them for that `reason`."""
        self._add("warning", TRUNCATED, name=name, reason=reason, limit=limit, count=count)

    def cache_file(self, path: Path, aside: Path, reason: str, renamed: bool) -> None:
        """The cache's file at `path` is used no more: `renamed` to `aside`, or left alone and `aside` used instead."""
        if renamed:
            self._add("warning", CACHE_SET_ASIDE, name=str(path), reason=reason, renamed_to=str(aside))
        else:
            instead = None if aside == path else str(aside)
            self._add("warning", CACHE_LEFT_ALONE, name=str(path), reason=reason, used_instead=instead)

    def take(self) -> LogLine | None:
        """The next line to be written, if there is one."""
        try:
            return self._lines.popleft()
        except IndexError:
            return None

    def _add(self, level: Level, event: str, **fields: object) -> None:
        self._lines.append(LogLine(level, event, fields))
        self._wake()


def _short(seconds: float) -> float:
    return round(seconds, 1)
