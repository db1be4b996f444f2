"""`LMClient`: the caller's side of a trip to a model: guards, worker, and once again after a worker's death."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context
from typing import Any

from dspy_actors.envelope import Envelope
from dspy_actors.errors import CallCancelled, DeadlineExceeded, LMError, LMTransportError, ShuttingDown
from dspy_actors.lm.flow import Flow
from dspy_actors.lm.guards import After, Guard, LMCall
from dspy_actors.lm.in_turn import InTurn
from dspy_actors.lm.lm import LM
from dspy_actors.lm.lm_stream import LMStream
from dspy_actors.lm.reach import WorkerFinder
from dspy_actors.lm.stream_settings import StreamSettings
from dspy_actors.lm.usage import LMCounters
from dspy_actors.lm.work import Answer
from dspy_actors.lm.worker import LMWorker
from dspy_actors.messages import LMRequest
from dspy_actors.secret import redacted
from supervisors.actor import Ref
from supervisors.clock import Clock, Timer
from supervisors.current import CURRENT, Life
from supervisors.errors import ActorDied, SystemStopped
from supervisors.exits import Crash, describe, said
from supervisors.reply import Reply

MAX_RESUBMITS = 1


class LMClient:
    """Takes a request through the guards to a worker. Never blocks; every method is safe from any thread.

    A call whose worker dies is sent once more, through the worker's successor and within its deadline; a second
    death is an `LMTransportError`. Both are counted.
    """

    def __init__(
        self,
        finder: WorkerFinder,
        guards: Sequence[Guard],
        in_turn: InTurn,
        counters: LMCounters,
        clock: Clock,
        streaming: StreamSettings | None = None,
    ) -> None:
        self._finder = finder
        self._guards = tuple(guards)
        self._in_turn = in_turn
        self._counters = counters
        self._clock = clock
        self._streaming = streaming or StreamSettings()
        self._open: dict[Reply[Answer], LMCall] = {}
        self._closed = False

    def submit(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        """Ask `lm`, then its fallbacks. Cancelling the reply gives up what an equal call does not wait for too."""
        self._counters.add("calls")
        if lm.fallbacks:
            return self._in_turn.ask(lm, request, envelope, self._submit)
        return self._begin(LMCall(lm, request, envelope, self))

    def _submit(self, lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
        return self._begin(LMCall(lm, request, envelope, self))

    def stream(self, lm: LM, request: LMRequest, envelope: Envelope) -> LMStream:
        """Ask `lm` for pieces. Whatever goes wrong, a refusal of the guards too, is raised to the stream's reader.

        A fallback is asked where nothing has come yet. The deadline of `envelope` ends the stream. It ends as well when
        the actor ends that has it opened.
        """
        self._counters.add("calls")
        self._counters.add("streams")
        flow = Flow(self._streaming, in_turn=bool(lm.fallbacks))
        if not lm.fallbacks:
            call = LMCall(lm, request, envelope, self, flow)
            stream = LMStream(flow, call.reply)
            self._begin(call)
            return stream

        def begin(lm: LM, request: LMRequest, envelope: Envelope) -> Reply[Answer]:
            return self._begin(LMCall(lm, request, envelope, self, flow))

        told: Reply[Answer] = Reply()
        stream = LMStream(flow, told)
        reply = self._in_turn.ask(lm, request, envelope, begin, flow.may_begin_anew)
        reply.add_done_callback(lambda done: flow.end_as(done, told))
        return stream

    def _begin(self, call: LMCall) -> Reply[Answer]:
        """Take the call through the guards and to a worker; what its caller waits for."""
        try:
            for guard in self._guards:
                answered = guard.admit(call)
                if answered is not None:
                    if call.flow is not None:  # only the cache answers a stream
                        call.flow.replay(answered.take())
                    return answered
        except LMError as refusal:
            self._end(call, None, refusal)
            return call.reply
        except BaseException as error:  # others may have joined this call: they must hear of it
            self._end(call, None, error)
            raise
        reply = call.reply
        if call.flow is None and call.flight is None:
            reply.tell_if_cancelled(call)
        self._open[reply] = call
        if call.flow is not None:
            self._tie(call, call.flow)
        if self._closed:  # then look: `close` may have missed it
            self._finish(call, None, _ended())
        else:  # in nobody's name: others may wait for this answer when the caller's actor is gone
            Context().run(self._reach, call)
        return reply

    def phase_of(self, reply: Reply[Any]) -> str | None:
        """What the call behind `reply` waits for (see `Work.phase`); `None` for one that shares another's."""
        call = self._open.get(self._in_turn.asked_now(reply))
        return None if call is None else call.phase

    def close(self) -> None:
        """End every call that is still open with `ShuttingDown`, and those to come."""
        self._closed = True
        for call in list(self._open.values()):
            self._finish(call, None, _ended())

    def reopen(self) -> None:
        """Let calls in again."""
        self._closed = False

    def _reach(self, call: LMCall) -> None:
        finder = self._finder
        ref = finder.here(call.lm.config)
        if ref is None or finder.waited_for:
            self._ask_in_turn(call, ref)
        else:
            self._ask(call, ref, None)

    def _ask_in_turn(self, call: LMCall, ref: Ref[LMWorker] | None) -> None:
        self._finder.in_turn(call.lm.config, ref, lambda ref, error: self._ask(call, ref, error))

    def _search(self, call: LMCall) -> None:
        self._finder.ask(call.lm.config, lambda ref, error: self._ask(call, ref, error))

    def _ask(self, call: LMCall, ref: Ref[LMWorker] | None, error: BaseException | None) -> None:
        if ref is None:
            assert error is not None
            self._finish(call, None, error)
            return
        if call.is_given_up():
            self._finish(call, None, _given_up())
            return
        flow = call.flow
        try:
            if flow is None:
                upstream = ref.send_request(LMWorker.complete, call)
            else:
                upstream = ref.send_request(LMWorker.stream, call, flow.next_turn())
        except SystemStopped:
            self._finish(call, None, _ended())
            return
        call.upstream = upstream
        if call.is_given_up():  # then look: who gave it up may have found nobody to tell
            upstream.cancel()
        upstream.on_settled(call)

    def again(self, call: LMCall) -> Reply[Answer]:
        """Begin a call that stands for one that was made before, in nobody's name. Any thread."""
        return Context().run(self._begin, call)

    def answered(self, call: LMCall) -> None:
        """The worker has settled its reply; in its thread, or in that of whoever cancelled it.

        What follows is done as at first in nobody's name, least of all in that of a worker that has been fenced.
        """
        Context().run(self._answered, call)

    def _answered(self, call: LMCall) -> None:
        settled = call.upstream
        assert settled is not None
        if settled.cancelled():
            self._finish(call, None, _given_up())
            return
        error = settled.exception()
        if error is None:
            self._finish(call, settled.take(), None)
        elif isinstance(error, ActorDied):
            self._worker_died(call, error)
        else:
            self._finish(call, None, error)

    def _worker_died(self, call: LMCall, error: ActorDied) -> None:
        deadline = call.until()
        failure: Exception
        if call.abandoned:
            failure = _given_up()
        elif deadline is not None and deadline <= self._clock.now():
            failure = DeadlineExceeded("the deadline passed as the worker died", phase="resubmit")
        elif call.flow is not None and not call.flow.may_begin_anew():
            msg = (
                f"the worker of {call.lm.name} died in the middle of its stream: {_why(error)}; "
                "what had come is in `partial`"
            )
            failure = LMTransportError(msg, provider=call.lm.provider, model=call.lm.model)
        elif call.resubmits >= MAX_RESUBMITS and error.maybe_handled:
            times = call.resubmits + 1
            msg = f"the worker of {call.lm.name} died {times} times while it held this call: {_why(error)}"
            failure = LMTransportError(msg, provider=call.lm.provider, model=call.lm.model)
        else:
            if error.maybe_handled:  # else it was never held, and asking again costs nobody anything
                call.resubmits += 1
                self._counters.add("resubmits")
            self._search(call)
            return
        if not call.abandoned:  # the worker that counts a call's end is dead
            self._counters.add("failures")
        failure.__cause__ = error
        self._finish(call, None, failure)

    def _tie(self, call: LMCall, flow: Flow) -> None:
        """Give the call up when its reader leaves, when its deadline passes, or when the actor dies that opened it."""
        flow.channel.on_close(call.give_up)
        owner = CURRENT.get()
        if owner is not None:
            call.after += (_Watched(owner, flow),)
            if not owner.watch(flow, lambda _: flow.cancel()):
                flow.cancel()
        deadline = call.envelope.deadline
        if deadline is not None:  # last: where it has passed the call ends here, and everybody in `after` hears of it
            call.after += (_Timed(self._clock.call_at(deadline, lambda: self._too_late(call, flow))),)

    def _too_late(self, call: LMCall, flow: Flow) -> None:
        phase = call.phase
        msg = f"the deadline passed before the stream of {call.lm.name} was over (waiting for: {phase})"
        self._finish(call, None, DeadlineExceeded(msg, phase=phase, partial=flow.text or None))
        call.give_up()

    def _finish(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        """The end of an open call, if it is the first one."""
        if self._open.pop(call.reply, None) is None:  # one C call: the first wins
            return
        self._end(call, answer, error)

    @staticmethod
    def _end(call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        flow = call.flow
        if flow is not None and isinstance(error, LMError) and error.partial is None:
            error.partial = flow.text or None
        try:
            if call.after:
                _tell(call.after, call, answer, error)
        finally:  # whatever a guard raises: who waits must hear
            if answer is not None:
                call.reply.set(answer)
            elif error is not None:
                call.reply.fail(error)
            if flow is not None and not flow.in_turn:
                flow.end(answer, error)


def _why(death: ActorDied) -> str:
    """What a worker died of, in a line; a crash may be a stranger's, so without what looks like a key."""
    end = death.exit
    why = f"{type(end.error).__name__}: {said(end.error)}" if isinstance(end, Crash) else describe(end)
    return redacted(" ".join(why[:1000].split()))[:200]


def _tell(afters: tuple[After, ...], call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
    """Tell each how the call ended. What one of them raises is raised when all have heard."""
    for place, after in enumerate(afters):
        try:
            after.ended(call, answer, error)
        except BaseException:
            _tell(afters[place + 1 :], call, answer, error)
            raise


class _Timed:
    """The timer of a stream's deadline goes with its call."""

    __slots__ = ("_timer",)

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        self._timer.cancel()


class _Watched:
    """The actor that opened a stream need not end it any more."""

    __slots__ = ("_flow", "_owner")

    def __init__(self, owner: Life, flow: Flow) -> None:
        self._owner = owner
        self._flow = flow

    def ended(self, call: LMCall, answer: Answer | None, error: BaseException | None) -> None:
        self._owner.unwatch(self._flow)


def _given_up() -> CallCancelled:
    return CallCancelled("the call was cancelled while the model was asked")


def _ended() -> ShuttingDown:
    return ShuttingDown("the runtime ended while the model was asked; make the call on another one")
