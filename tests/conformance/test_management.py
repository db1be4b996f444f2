"""Section M: the management API and timers."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.cell import IGNORE
from supervisors.clock import ManualClock, Timer
from supervisors.errors import AlreadyStarted, CallTimeout
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildType
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import (
    TEMPORARY,
    Background,
    Gate,
    Script,
    SlowEnd,
    Worker,
    alive,
    answer,
    api,
    busy,
    child,
    counts,
    finish,
    fresh,
    ids,
    let_time_pass,
    letters,
    queued,
    spec,
    states,
    stop,
    supervise,
    worker,
)
from tests.conformance.words import down, recorded

START, TERMINATE = Supervisor.start_child, Supervisor.terminate_child
RESTART, DELETE = Supervisor.restart_child, Supervisor.delete_child


def test_m01_which_children_is_in_start_order(kernel: Kernel) -> None:
    assert ids(supervise(kernel, letters("abc", Log()))) == list(reversed(recorded("M01")))


def test_m02_count_children_counts_specs_active_and_types(kernel: Kernel) -> None:
    children = [
        *letters("ab", Log()),
        spec("c", Log(), type=ChildType.SUPERVISOR),
        spec("d", Log(), script=Script(IGNORE)),
    ]
    sup = supervise(kernel, children)
    sup.call(TERMINATE, "a")

    assert counts(sup) == recorded("M02")


def test_m03_start_child_of_a_running_id_tells_who_runs(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    with pytest.raises(AlreadyStarted) as caught:
        sup.call(START, spec("a", Log()))

    assert {"answer": "already_started", "same": caught.value.ref is child(sup, "a")} == recorded("M03")


def test_m04_start_child_of_a_stopped_id_is_already_present(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    sup.call(TERMINATE, "a")

    assert api(sup, START, spec("a", Log())) == recorded("M04")


def test_m05_terminate_child_of_an_unknown_id_is_not_found(kernel: Kernel) -> None:
    assert api(supervise(kernel, letters("a", Log())), TERMINATE, "b") == recorded("M05")


def test_m06_terminate_child_returns_when_the_child_is_down_and_keeps_its_spec(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    sup = fresh(kernel, log, [spec("a", log, SlowEnd, gate=gate)])
    asked = sup.send_request(TERMINATE, "a")
    log.wait_for("<a")
    early = asked.done()
    gate.open()

    assert (early, asked.get(5)) == (False, None)
    assert {"answer": "ok", "log": log.events, "states": states(sup)} == recorded("M06")


def test_m07_terminate_child_of_a_stopped_child_is_ok(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    assert [api(sup, TERMINATE, "a"), api(sup, TERMINATE, "a")] == recorded("M07")


def test_m08_terminate_child_forgets_a_temporary_child(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TEMPORARY)])
    answered = api(sup, TERMINATE, "a")

    assert {"answer": answered, "ids": ids(sup), "restart": api(sup, RESTART, "a")} == recorded("M08")


def test_m09_restart_child_is_for_stopped_children(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    running = api(sup, RESTART, "a")
    sup.call(TERMINATE, "a")
    seen = {"running": running, "unknown": api(sup, RESTART, "b"), "stopped": api(sup, RESTART, "a")}

    assert seen == recorded("M09")


def test_m10_delete_child_is_for_stopped_children(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    running = api(sup, DELETE, "a")
    sup.call(TERMINATE, "a")
    seen = {"running": running, "unknown": api(sup, DELETE, "b"), "stopped": api(sup, DELETE, "a"), "ids": ids(sup)}

    assert seen == recorded("M10")


def test_m11_the_api_of_a_dead_supervisor_is_noproc(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("a", Log()))
    stop(sup)
    seen = {
        "which_children": answer(sup.call, Supervisor.which_children),
        "start_child": api(sup, START, spec("b", Log())),
    }

    assert seen == recorded("M11")


def test_m12_an_api_call_ends_after_five_seconds_or_as_its_caller_says(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still)
    with busy(sup):
        usual, patient = Background(sup.call, TERMINATE, "a"), Background(sup.within(9).call, TERMINATE, "a")
        queued(sup, 2)
        let_time_pass(clock, usual.done)
        still_waits = not patient.done()
        let_time_pass(clock, patient.done)
        for call in (usual, patient):
            with pytest.raises(CallTimeout):
                call.value()

    assert (still_waits, alive(sup)) == (True, True)


def test_m13_a_crash_before_a_call_is_handled_before_it(kernel: Kernel) -> None:
    sup = supervise(kernel, letters("ab", Log()), max_restarts=0)
    a = child(sup, "a")
    with busy(sup):
        finish(a)
        call = Background(api, sup, TERMINATE, "b")
        queued(sup, 2)

    assert {"answer": call.value(), "exit": down(sup)} == recorded("M13")


def test_m14_a_crash_behind_a_terminate_child_is_no_restart(kernel: Kernel) -> None:
    log = Log()
    sup = fresh(kernel, log, letters("ab", log), max_restarts=0)
    a = child(sup, "a")
    with busy(sup):
        call = Background(api, sup, TERMINATE, "a")
        queued(sup, 1)
        finish(a)

    assert {"answer": call.value(), "states": states(sup), "log": log.events} == recorded("M14")


class Timed(Worker):
    """Hands out its timers."""

    def begin(self, seconds: float, what: str) -> Timer:
        return self.send_after(seconds, Worker.note, what)


def test_m15_a_timer_that_is_cancelled_tells_what_was_left(still: Kernel) -> None:
    ref: Ref[Any] = worker(still, cls=Timed)
    timer = ref.call(Timed.begin, 3.0, "late")
    answers = (timer.cancel(), timer.cancel())

    assert recorded("M15") | {"left": True, "again": False} == recorded("M15")
    assert answers == (3.0, None)


def test_m15_a_cancel_after_the_time_is_none_and_leaves_the_message(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    ref: Ref[Any] = worker(still, log, Timed)
    timer = ref.call(Timed.begin, 3.0, "fired")
    clock.advance(3.0)
    late = timer.cancel()
    ref.call(Worker.hello)

    assert recorded("M15") | {"after_firing": False, "in_the_mailbox": True} == recorded("M15")
    assert (late, log.events) == (None, ["fired"])


def test_m15_a_message_to_the_dead_is_dropped(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    ref: Ref[Any] = worker(still, log, Timed)
    timer = ref.call(Timed.begin, 3.0, "late")
    finish(ref, Shutdown())
    left = timer.cancel()
    clock.advance(3.0)

    assert (left, log.events) == (None, ["-a shutdown"])
