"""`Outcome`: how one call of a program ended, as a value, and what a call's frame tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.call_record import CallRecord
from dspy_actors.errors import DspyActorsError
from dspy_actors.example import Prediction
from dspy_actors.messages import Truncation, Usage
from dspy_actors.old_pickles import reads_old_pickles
from dspy_actors.quick_init import quick_init
from dspy_actors.runner import Frame, call_around, fault_of
from supervisors.errors import fresh
from supervisors.telemetry import Event, Telemetry

CALL: Event = ("program", "call")
"""Event of a call of a program that has ended: measurements `seconds`, `requests` and how many answers were `cached`,
as in its `Outcome`; metadata `call_id`, `outer` (the `call_id` of the call that it was made in, or `None`), `program`,
`version` (`None` where it never had a place), `tenant`, `session`, `priority`, `kind` (of its error, `cancelled`, or
`None`) and `truncated`."""


@reads_old_pickles
@quick_init
@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction or an error, and what it took.

    `fault` is the infrastructure's failure behind the error, if there was one, also where the program wrapped it in
    an error of its own: such a call says nothing about the program. `met` is the last such failure on the way, also
    where the call got over it, by a fallback or by the program's own means: then its prediction is not kept. `seconds`
    is wall time from admission on; `attempts` counts requests, whatever came of them, `cached` answers that came
    from the cache. `usage` is that of the answers. `truncated` says what cut an answer off, if one of the call's was,
    of whichever predictor, though others were whole: what was read from it may end in the middle, or could not be read.
    """

    call_id: str
    prediction: Prediction | None = None
    error: Exception | None = None
    fault: DspyActorsError | None = None
    seconds: float = 0.0
    attempts: int = 0
    cached: int = 0
    usage: Usage | None = None
    met: DspyActorsError | None = None
    truncated: Truncation | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a prediction."""
        return self.prediction is not None

    def unwrap(self) -> Prediction:
        """The prediction; raises the error where there is none."""
        if self.prediction is None:
            assert self.error is not None
            raise fresh(self.error)
        return self.prediction


def annotated(prediction: Prediction, frame: Frame, version: int) -> Prediction:
    """The prediction of the call of `frame`, with what it took."""
    scope, envelope = frame.scope, frame.envelope
    assert scope is not None
    assert envelope is not None
    cost, cached = prediction.call_record.cost, scope.lm_calls > 0 and scope.cached == scope.lm_calls
    sent = envelope.requests + scope.inner
    record = CallRecord(scope.usage, cost, sent, cached, scope.model, version, scope.truncated, envelope.call_id)
    return prediction.with_record(record)


def outcome_of(frame: Frame, seconds: float, prediction: Prediction | None, error: Exception | None) -> Outcome:
    """How the call of `frame` ended, after `seconds`."""
    scope, envelope = frame.scope, frame.envelope
    assert scope is not None
    assert envelope is not None
    met = None if scope.fault is None else fault_of(scope.fault)
    fault = None if error is None else fault_of(error) or met
    # by place, as names would make a dict of each call
    sent = envelope.requests + scope.inner
    usage, cached, cut = scope.usage, scope.cached, scope.truncated
    return Outcome(envelope.call_id, prediction, error, fault, seconds, sent, cached, usage, met, cut)


def tell_call(
    telemetry: Telemetry, program: str, version: int | None, frame: Frame, seconds: float, kind: str | None
) -> None:
    """Execute `CALL` for the call of `frame`, which has ended. In the thread that ran it, or awaited it."""
    scope, envelope, outer = frame.scope, frame.envelope, call_around(frame.outer)
    assert scope is not None
    assert envelope is not None
    around = None if outer is None else outer.envelope
    took = {"seconds": seconds, "requests": envelope.requests + scope.inner, "cached": scope.cached}
    about = {
        "call_id": envelope.call_id,
        "outer": None if around is None else around.call_id,
        "program": program,
        "version": version,
        "tenant": envelope.tenant,
        "session": envelope.session,
        "priority": envelope.priority,
        "kind": kind,
        "truncated": scope.truncated,
    }
    telemetry.execute(CALL, took, about)


def ended_by(error: Exception, frame: Frame) -> str:
    """The call of `frame` ends with `error`, which says so from now on: its kind."""
    assert frame.envelope is not None
    if isinstance(error, DspyActorsError) and error.call_id is None:  # not so where a call within this one ended by it
        error.call_id = frame.envelope.call_id
    return kind_of(error)


def kind_of(error: BaseException) -> str:
    """The stable word for `error` in metrics and files: its `kind`, or its class's name."""
    return error.kind if isinstance(error, DspyActorsError) else type(error).__name__
