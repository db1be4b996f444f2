"""The places of a program under any order of events: none is given twice, none stays free for whom it may be."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from dspy_actors.envelope import CLASSES, Priority
from dspy_actors.errors import Busy
from dspy_actors.modules.admission import Admission, Limits
from dspy_actors.modules.instance import InstancePlan, ModuleInstance
from dspy_actors.modules.record import Versions
from supervisors import sys
from supervisors.clock import ManualClock
from supervisors.exits import Crash
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from tests.dspy_actors.programs import PATIENCE, qa


class Step(NamedTuple):
    """What happens next: a call comes, one that waits leaves, one that runs ends, time passes, the actor dies.

    Just as one comes late to the actor, to ask for a turn, another ends.
    """

    what: str
    priority: Priority
    tenant: str
    which: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["come"] * 10 + ["come late", "leave", "end", "end", "end", "end", "pass", "die"]),
        st.sampled_from(CLASSES),
        st.sampled_from(["a", "b"]),
        st.integers(0, 100),
    ),
    min_size=20,
    max_size=60,
)


class Crowd:
    """A program with `PLACES` places and `QUEUE` behind them, and everybody who runs in it or waits for it."""

    PLACES = 5
    QUEUE = 5

    def __init__(self, kernel: Kernel, clock: ManualClock) -> None:
        self.kernel, self.clock = kernel, clock
        self.admission = Admission("p", Limits(max_inflight=self.PLACES, max_queue=self.QUEUE))
        self.plan = InstancePlan("p", Versions(qa()), self.admission)
        self.instance = kernel.spawn(ModuleInstance, self.plan)
        self.numbers = itertools.count()
        self.waits: dict[str, tuple[Step, Reply[None]]] = {}
        self.runs: dict[str, Step] = {}

    def take(self, step: Step) -> None:
        if step.what in ("come", "come late"):
            self.come(str(next(self.numbers)), step)
        elif step.what == "leave" and self.waits:
            call_id = list(self.waits)[step.which % len(self.waits)]
            self.waits.pop(call_id)[1].cancel()
            self.free(call_id)
        elif step.what == "end":
            self.end(step)
        elif step.what == "pass":
            self.clock.advance(step.which)
        elif step.what == "die":
            self.die()
        sys.get_state(self.instance)  # by then it has heard of all
        for call_id, (came, turn) in list(self.waits.items()):
            if turn.done():
                turn.take()
                del self.waits[call_id]
                self.runs[call_id] = came

    def free(self, call_id: str) -> None:
        if self.admission.leave(call_id):
            self.instance.cast(ModuleInstance.let_in)

    def end(self, step: Step) -> None:
        if self.runs:
            call_id = list(self.runs)[step.which % len(self.runs)]
            del self.runs[call_id]
            self.free(call_id)

    def come(self, call_id: str, step: Step) -> None:
        if self.admission.enter_at_once(call_id):
            self.runs[call_id] = step
            return
        try:
            seated = self.admission.enter(call_id, urgent=step.priority == "interactive")
        except Busy:
            assert len(self.waits) == self.QUEUE
            return
        if seated:
            self.runs[call_id] = step
            return
        if step.what == "come late":
            self.end(step)
        turn = self.instance.send_request(ModuleInstance.admit, call_id, step.priority, step.tenant)
        self.waits[call_id] = step, turn

    def die(self) -> None:
        """The actor dies, and its successor is asked by those who waited."""
        self.instance.exit(Crash(RuntimeError("killed by the test")))
        self.instance.down().get(PATIENCE)
        self.instance = self.kernel.spawn(ModuleInstance, self.plan)
        waited, self.waits = self.waits, {}
        for call_id, (_, turn) in waited.items():
            assert turn.done()
            self.admission.leave(call_id)
        for call_id, (step, _) in waited.items():
            self.come(call_id, step)


@given(STEPS)
@settings(max_examples=60, deadline=None, phases=(Phase.generate,))  # making one smaller takes minutes
def test_whatever_happens_places_are_counted_right_and_none_stays_free_for_whom_it_may_be(steps: list[Step]) -> None:
    clock = ManualClock()
    kernel = Kernel(clock=clock)
    try:
        crowd = Crowd(kernel, clock)
        for step in steps:
            crowd.take(step)
            assert crowd.admission.running == set(crowd.runs)
            assert crowd.admission.waiting == set(crowd.waits)
            assert len(crowd.runs) <= crowd.PLACES
            if crowd.waits:
                assert len(crowd.runs) >= crowd.admission.open_to_all
            if any(came.priority == "interactive" for came, _ in crowd.waits.values()):
                assert len(crowd.runs) == crowd.PLACES
        for _ in range(crowd.PLACES + crowd.QUEUE):
            crowd.take(Step("end", "batch", "", 0))
        assert not crowd.waits
    finally:
        assert kernel.close(PATIENCE)
