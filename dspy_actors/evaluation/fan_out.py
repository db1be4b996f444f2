"""`fan_out`: put a job into the hands of a bounded number of evaluation actors, and replace those that die."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Protocol

from dspy_actors.errors import Busy, DspyActorsError, EvaluationError
from dspy_actors.evaluation.actor import EvaluationActor
from dspy_actors.evaluation.job import Hand, Job
from supervisors.actor import Ref
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, SystemStopped
from supervisors.reply import Reply
from supervisors.spec import ChildSpec, Restart

MAX_ACTORS = 8
"""Evaluation actors of one job. More rows at once are more slots an actor: one loop runs them all either way."""

PAUSE = 0.05
"""Seconds between two looks for the supervisor of evaluation actors, while it is being replaced."""

MAX_REFUSED = 100
"""Starts in a row that may fail, over all actors of a job, before the job is given up."""

_NUMBERS = itertools.count(1)


class Crew(Protocol):
    """Where evaluation actors live."""

    @property
    def evaluations(self) -> Ref[DynamicSupervisor]: ...

    def run_on_loop(self, body: Coroutine[Any, Any, Any]) -> Reply[Any]: ...

    def pause(self, seconds: float) -> Reply[None]: ...

    def end_evaluation(self, ref: Ref[Any]) -> None: ...


def fan_out(crew: Crew, job: Job, concurrency: int) -> None:
    """Begin the job with `concurrency` rows under way at once; returns at once, `job.done` settles at the end.

    Raises nothing: what keeps an actor from starting fails `job.done`.
    """
    Context().run(_FanOut(crew, job).begin, concurrency)  # in nobody's name: who began it may be dead at the end


class _FanOut:
    """Counts the actors of one job. Its callbacks run in whichever thread has the news and do not block."""

    def __init__(self, crew: Crew, job: Job) -> None:
        self._crew = crew
        self._job = job
        self._alive: set[int] = set()
        self._refused = 0

    def begin(self, concurrency: int) -> None:
        actors = min(MAX_ACTORS, concurrency)
        shares = [concurrency // actors + (n < concurrency % actors) for n in range(actors)]
        self._alive = set(range(actors))
        for number, slots in enumerate(shares):
            self._start(number, slots)

    def _start(self, number: int, slots: int) -> None:
        spec = ChildSpec(f"evaluation {next(_NUMBERS)}", EvaluationActor, restart=Restart.TEMPORARY, shutdown=5.0)
        try:
            started = self._crew.evaluations.send_request(DynamicSupervisor.start_child, spec)
        except (Busy, SystemStopped):
            self._start_later(number, slots)
        except DspyActorsError as error:
            self._job.done.fail(error)
        else:
            started.add_done_callback(lambda reply: self._started(reply, number, slots))

    def _start_later(self, number: int, slots: int) -> None:
        """The supervisor of evaluation actors is being replaced; at the runtime's end the job ends too."""

        def again(paused: Reply[None]) -> None:
            error = paused.exception()
            if error is None:
                self._start(number, slots)
            else:
                self._job.done.fail(error)

        self._crew.pause(PAUSE).add_done_callback(again)

    def _started(self, started: Reply[Any], number: int, slots: int) -> None:
        error = started.exception()
        if error is not None:
            self._refused += 1
            if self._refused < MAX_REFUSED:
                self._start_later(number, slots)
            else:
                msg = f"evaluation actors do not start: {error!r}"
                failure = EvaluationError(msg)
                failure.__cause__ = error
                self._job.done.fail(failure)
            return
        self._refused = 0
        ref: Ref[EvaluationActor] = started.get(0)
        self._job.actors.append(ref)
        hand = Hand()
        try:
            working = ref.send_request(EvaluationActor.work, self._job, slots, hand)
        except SystemStopped:
            self._start_later(number, slots)
            return
        working.add_done_callback(lambda reply: self._ended(reply, ref, number, slots, hand))

    def _ended(self, working: Reply[Any], ref: Ref[EvaluationActor], number: int, slots: int, hand: Hand) -> None:
        error = working.exception()
        self._job.actors.remove(ref)
        if error is not None and self._job.stopped:
            for _ in hand.revoke():  # nobody tries them again; an actor that came late must not wait for their end
                self._job.feed.settle()
        elif error is not None:
            cause = error.__cause__ if isinstance(error, ActorDied) and error.__cause__ is not None else error
            try:
                for row in hand.revoke():
                    self._crew.run_on_loop(self._job.lost(row, cause))
            except DspyActorsError as ended:
                self._job.done.fail(ended)
                return
            self._start(number, slots)
            return
        self._alive.discard(number)
        self._crew.end_evaluation(ref)
        if not self._alive:
            self._job.done.set(None)
