"""`InTurn`: one call that goes from model to model, in the order of an LM's fallbacks, until one answers.

Each model is asked as if it were called by itself: with its own cache key, flight, budget reservation, limiter,
breaker, retries and usage records. What is asked of one is an answer, or a stream that has begun; what becomes of a
stream later is nobody else's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import replace
from typing import Any, TypeAlias

from dspy_actors.envelope import Envelope
from dspy_actors.errors import DspyActorsError, LMError
from dspy_actors.lm.falling_back import falls_back
from dspy_actors.lm.lm import LM, Fallback
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.work import Answer, credited
from dspy_actors.messages import LMRequest
from supervisors.reply import Reply
from supervisors.telemetry import Telemetry

FELL_BACK = ("lm", "fallback")
"""Event of a call that goes on to another model: measurements {}, metadata `call_id`, `model`, `to`, `kind`."""

Send: TypeAlias = Callable[[LM, LMRequest, Envelope], Reply[Answer]]
"""Asks one model; returns at once, and does not look at the LM's fallbacks."""


class InTurn:
    """Asks an LM and then its fallbacks. Never blocks; every method is safe from any thread.

    Where all fail, the call fails with the last one's error; the others' are its `__cause__`, and the one's of that.
    """

    def __init__(self, counters: LMCounters, telemetry: Telemetry) -> None:
        self._counters = counters
        self._telemetry = telemetry
        self._open: dict[Reply[Any], Reply[Any]] = {}

    def ask(
        self, lm: LM, request: LMRequest, envelope: Envelope, send: Send, may_go_on: Callable[[], bool] = lambda: True
    ) -> Reply[Answer]:
        """The reply of the first model that answers. Cancelling it cancels what is asked at the moment.

        `request` holds the options of `lm`; the others are asked the same with their own. `may_go_on` is asked once
        before each of them: a stream of which something was read is not begun anew.
        """
        trip = _Trip(self, lm, request, envelope, send, may_go_on)
        trip.start()
        return trip.reply

    def asked_now(self, reply: Reply[Any]) -> Reply[Any]:
        """The reply of the model that is asked at the moment for the call behind `reply`."""
        return self._open.get(reply, reply)

    def note(self, envelope: Envelope, before: LM, after: LM, error: LMError) -> None:
        """A call goes on to another model."""
        self._counters.add("fallbacks")
        metadata = {"call_id": envelope.call_id, "model": before.name, "to": after.name, "kind": error.kind}
        self._telemetry.execute(FELL_BACK, {}, metadata)


class _Trip:
    """One call on its way from model to model."""

    __slots__ = (
        "attempts",
        "context",
        "envelope",
        "errors",
        "left",
        "lm",
        "may_go_on",
        "owner",
        "reply",
        "request",
        "send",
    )

    def __init__(
        self,
        owner: InTurn,
        lm: LM,
        request: LMRequest,
        envelope: Envelope,
        send: Send,
        may_go_on: Callable[[], bool],
    ) -> None:
        self.owner = owner
        self.lm = lm
        self.request = request
        self.envelope = envelope
        self.send = send
        self.may_go_on = may_go_on
        self.context = copy_context()  # whoever made the call makes all of it, wherever the last answer comes
        self.reply: Reply[Answer] = Reply()
        self.errors: list[LMError] = []
        self.attempts = 0
        self.left: list[Iterator[Fallback]] = [iter(lm.fallbacks)]

    def start(self) -> None:
        self._watch(self.send(self.lm, self.request, self.envelope))
        self.reply.add_done_callback(self._settled)

    def _watch(self, asked: Reply[Answer]) -> None:
        self.owner._open[self.reply] = asked
        if self.reply.done():  # given up at this very moment: `_settled` may have missed this one
            self._settled(self.reply)
        asked.add_done_callback(self._ended)

    def _settled(self, reply: Reply[Answer]) -> None:
        asked = self.owner._open.pop(reply, None)
        if asked is not None and reply.cancelled():
            asked.cancel()

    def _ended(self, asked: Reply[Answer]) -> None:
        if self.reply.done():
            return
        if asked.cancelled():
            self.reply.cancel()
            return
        error = asked.exception()
        if error is None:
            self.reply.set(credited(asked.take(), self.lm, self.attempts, self.errors))
            return
        following = self._next(error)
        if following is None or not self.may_go_on():
            self.reply.fail(self._all_failed(error))
        else:
            assert isinstance(error, LMError)
            self._go_on(following, error)

    def _go_on(self, following: LM, error: LMError) -> None:
        """Ask the next model, after the one before it ended in `error`."""
        self.errors.append(error)
        self.attempts += error.attempts or 0
        self.owner.note(self.envelope, self.lm, following, error)
        self.lm = following
        request = replace(self.request, model=following.model, options=following.options)
        try:
            found = self.context.copy().run(self.send, following, request, self.envelope)
        except Exception as failure:
            self.reply.fail(failure)
        else:
            self._watch(found)

    def _next(self, error: BaseException) -> LM | None:
        """The next model that is to be asked after `error`: its fallbacks come before those of the model before it."""
        while self.left:
            for option in self.left[-1]:
                if falls_back(error, option.on):
                    self.left.append(iter(option.lm.fallbacks))
                    return option.lm
            self.left.pop()
        return None

    def _all_failed(self, error: BaseException) -> BaseException:
        """The last error with those before it as its causes. Copies: the errors may be others' too."""
        if not self.errors or not isinstance(error, DspyActorsError):
            return error
        last: BaseException = self.errors[0]
        for each in (*self.errors[1:], error):
            found = each.fresh()
            found.__cause__ = last
            last = found
        if isinstance(last, LMError):
            last.attempts = self.attempts + (last.attempts or 0)
        tried = ", ".join(f"{each.model or 'a model'} ({each.kind})" for each in self.errors)
        last.add_note(f"asked before it, in vain: {tried}")
        return last
