"""A supervisor's reports, written a moment after what they are about, one message each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from supervisors import reports
from supervisors.actor import Actor
from supervisors.child import Entry, offender
from supervisors.exits import Crash
from supervisors.lastwords import LastWords, gather
from supervisors.lineage import ancestors
from supervisors.ref import Ref
from supervisors.spec import ChildSpec

REPORT_DELAY: Final = 0.02
"""Seconds between an event and its report, which is written when the children are up again."""


class Writer:
    """What `owner` has to report. It belongs to the owner's thread, but for `remember`."""

    def __init__(self, owner: Actor, again: Callable[[Any], object]) -> None:
        """`again` is the owner's message to itself that calls `write_one`."""
        self._owner = owner
        self._again = again
        self._telemetry = owner.kernel.telemetry
        self._reports: deque[tuple[str, object, ChildSpec, Ref[Any] | None, LastWords | None]] = deque()
        self._words: dict[Ref[Any], LastWords] = {}  # of the dead that are not reported yet
        self._is_due = False

    def remember(self, ref: Ref[Any]) -> None:
        """`ref` has just crashed. In the thread that finishes it, or in the owner's, which may come late.

        Of two that come, the one that finishes it knows all; the other may find nothing left.
        """
        self._words.setdefault(ref, gather(ref.mailbox))  # both have gathered before either leaves its words

    def forget(self, ref: Ref[Any]) -> None:
        """Nothing will be reported of `ref`."""
        self._words.pop(ref, None)

    def report(self, context: str, reason: object, entry: Entry, ref: Ref[Any] | None = None) -> None:
        """Note a report on `entry`, or on its life `ref`. It is written `REPORT_DELAY` later, or by `flush`.

        To write a report takes longer than to restart a child, and the two would fight for the interpreter while
        callers wait for the new life.
        """
        words = None
        if ref is not None:
            here = gather(ref.mailbox) if type(reason) is Crash and ref.mailbox.actor is not None else None
            words = self._words.pop(ref, None) or here  # the thread that finishes it may not have come to `remember`
        self._reports.append((context, reason, entry.spec, ref, words))
        if not self._is_due:
            self._is_due = True
            self._owner.send_after(REPORT_DELAY, self._again)

    def write_one(self) -> None:
        """Write the oldest report, and the next one by another message: the supervisor answers in between."""
        self._write_oldest()
        self._is_due = bool(self._reports)
        if self._is_due:
            self._owner.ref.cast(self._again)

    def flush(self) -> None:
        """Write all reports now."""
        while self._reports:
            self._write_oldest()

    def _write_oldest(self) -> None:
        if not self._reports:
            return
        context, reason, spec, ref, words = self._reports.popleft()
        about: dict[str, Any] = {"ancestors": [self._owner.name, *ancestors(self._owner.ref.mailbox)], "callers": []}
        if words is not None:
            about = words.in_words(reason)
            reason = about.pop("reason")
        facts = offender(spec, ref)
        reports.supervisor_report(
            self._telemetry, context, supervisor=self._owner.name, reason=reason, offender=facts, about=about
        )
