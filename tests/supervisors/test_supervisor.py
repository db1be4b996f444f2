"""The management API: values and typed errors, and a supervisor that nothing of it harms."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.backoff import Backoff
from supervisors.clock import ManualClock
from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    CallCycle,
    NotFound,
    Restarting,
    Running,
    SpecError,
    StartFailed,
    UnknownMessage,
)
from supervisors.exits import Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import ChildSpec, ChildType
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.supervisors.workers import (
    BOOM,
    CRASH,
    ONE,
    REST,
    TEMPORARY,
    TRANSIENT,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    state,
    supervise,
)


def test_which_children_tells_id_ref_and_type(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log()), ChildSpec("b", Supervisor, kwargs={"strategy": ONE})])
    a, b = sup.call(Supervisor.which_children)

    assert (a.id, a.type, b.id, b.type) == ("a", ChildType.WORKER, "b", ChildType.SUPERVISOR)
    assert isinstance(a.ref, Ref)


def test_count_children_counts_specs_active_and_types(kernel: Kernel) -> None:
    inner = ChildSpec("s", Supervisor, kwargs={"strategy": ONE})
    sup = supervise(kernel, [spec("a", Log()), spec("b", Log()), inner])
    sup.call(Supervisor.terminate_child, "a")

    assert sup.call(Supervisor.count_children) == (3, 2, 1, 2)


def test_start_child_gives_the_ref(kernel: Kernel) -> None:
    sup = supervise(kernel)

    assert sup.call(Supervisor.start_child, spec("a", Log())) is child(sup, "a")


def test_start_child_of_a_running_id_tells_who_runs(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    with pytest.raises(AlreadyStarted) as caught:
        sup.call(Supervisor.start_child, spec("a", Log()))

    assert caught.value.ref is child(sup, "a")


def test_start_child_of_a_stopped_id_is_refused(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    sup.call(Supervisor.terminate_child, "a")

    with pytest.raises(AlreadyPresent):
        sup.call(Supervisor.start_child, spec("a", Log()))


def test_a_start_child_that_fails_leaves_nothing(kernel: Kernel) -> None:
    sup = supervise(kernel, max_restarts=0)
    with pytest.raises(StartFailed) as caught:
        sup.call(Supervisor.start_child, spec("a", Log(), script=Script(BOOM)))

    assert (caught.value.id, caught.value.cause, ids(sup)) == ("a", BOOM, [])


def test_something_that_is_no_spec_is_refused(kernel: Kernel) -> None:
    sup = supervise(kernel)
    with pytest.raises(SpecError):
        sup.call(Supervisor.start_child, 42)  # type: ignore[arg-type]

    assert ids(sup) == []


def test_terminate_child_stops_and_keeps_the_spec(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    ref = child(sup, "a")
    sup.call(Supervisor.terminate_child, "a")

    assert (ref.is_alive(), state(sup, "a")) == (False, None)


def test_terminate_child_of_a_stopped_child_is_fine(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.terminate_child, "a")

    assert state(sup, "a") is None


def test_terminate_child_forgets_a_temporary_child(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TEMPORARY)])
    sup.call(Supervisor.terminate_child, "a")

    with pytest.raises(NotFound):
        sup.call(Supervisor.restart_child, "a")


def test_a_crash_behind_a_terminate_child_is_no_restart(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log)], max_restarts=0)
    ref = child(sup, "a")

    def start(kernel: Kernel) -> Any:
        asked = sup.send_request(Supervisor.terminate_child, "a")
        end(ref)
        log.add(asked)
        raise BOOM

    with pytest.raises(StartFailed):
        sup.call(Supervisor.start_child, ChildSpec("busy", start))

    assert log.events[-1].get(5) is None
    assert ids(sup) == ["a"]


def test_restart_child_starts_a_stopped_child_again(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec("a", log)])
    sup.call(Supervisor.terminate_child, "a")
    ref = sup.call(Supervisor.restart_child, "a")

    assert (ref is child(sup, "a"), log.events) == (True, ["+a", "-a", "+a"])


def test_restart_child_that_fails_leaves_the_child_stopped(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(None, BOOM))])
    sup.call(Supervisor.terminate_child, "a")
    with pytest.raises(StartFailed):
        sup.call(Supervisor.restart_child, "a")

    assert state(sup, "a") is None


def test_a_running_child_can_be_neither_restarted_nor_deleted(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])

    for method in (Supervisor.restart_child, Supervisor.delete_child):
        with pytest.raises(Running):
            sup.call(method, "a")


def test_delete_child_forgets_a_stopped_child(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    sup.call(Supervisor.terminate_child, "a")
    sup.call(Supervisor.delete_child, "a")

    assert ids(sup) == []


@pytest.mark.parametrize(
    "method",
    [
        Supervisor.terminate_child,
        Supervisor.restart_child,
        Supervisor.delete_child,
        Supervisor.which_child,
        Supervisor.get_childspec,
    ],
)
def test_an_unknown_id_is_not_found(kernel: Kernel, method: Any) -> None:
    with pytest.raises(NotFound):
        supervise(kernel).call(method, "x")


def test_get_childspec_is_complete(kernel: Kernel) -> None:
    wanted = spec("a", Log())
    sup = supervise(kernel, [wanted])

    assert sup.call(Supervisor.get_childspec, "a") == wanted


def test_the_arguments_of_a_temporary_child_are_not_kept(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), restart=TEMPORARY)])

    assert sup.call(Supervisor.get_childspec, "a").args == ()


def test_an_unknown_message_is_ignored(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    sup.tell("what is this?")

    assert ids(sup) == ["a"]


def test_a_function_of_another_class_is_refused_in_the_caller(kernel: Kernel) -> None:
    sup: Any = supervise(kernel)
    with pytest.raises(UnknownMessage):
        sup.call(Worker.hello)

    assert sup.is_alive()


def test_an_error_of_a_cast_harms_nobody(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log())])
    sup.cast(Supervisor.terminate_child, "x")

    assert ids(sup) == ["a"]


# --- backoff ------------------------------------------------------------------------------------------------------

STEADY = Backoff(base=1.0, cap=4.0, factor=2.0, jitter=0.0, healthy=10.0)


def test_the_first_restart_does_not_wait(still: Kernel) -> None:
    sup = supervise(still, [spec("a", Log(), backoff=STEADY)])
    end(child(sup, "a"))

    assert child(sup, "a").is_alive()


def test_the_second_crash_in_a_row_waits(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    sup = supervise(still, [spec("a", log, backoff=STEADY)])
    for _ in range(2):
        end(child(sup, "a"))
    waiting = state(sup, "a")
    clock.advance(1.0)

    assert (waiting, child(sup, "a").is_alive()) == ("waiting", True)


def test_failed_attempts_wait_longer_and_longer(still: Kernel, clock: ManualClock) -> None:
    script = Script(None, BOOM)
    sup = supervise(still, [spec("a", Log(), script=script, backoff=STEADY)], max_restarts=100)
    end(child(sup, "a"))
    seen = []
    for _ in range(8):
        ids(sup)
        seen.append(script.starts)
        clock.advance(1.0)

    assert seen == [2, 3, 3, 4, 4, 4, 4, 5]


def test_a_healthy_life_begins_anew(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, [spec("a", Log(), backoff=STEADY)])
    end(child(sup, "a"))
    ids(sup)
    clock.advance(10.0)
    end(child(sup, "a"))

    assert child(sup, "a").is_alive()


def test_what_leans_on_a_waiting_child_does_not_run(still: Kernel, clock: ManualClock) -> None:
    log = Log()
    sup = supervise(still, [spec("a", log, backoff=STEADY), spec("b", log)], REST)
    for _ in range(2):
        end(child(sup, "a"))
    waiting = state(sup, "b")
    log.clear()
    clock.advance(1.0)
    ids(sup)

    assert (waiting, log.events) == (None, ["+a", "+b"])


def test_a_waiting_child_can_be_terminated(still: Kernel, clock: ManualClock) -> None:
    script = Script(None)
    sup = supervise(still, [spec("a", Log(), script=script, backoff=STEADY)])
    for _ in range(2):
        end(child(sup, "a"))
    with pytest.raises(Restarting):
        sup.call(Supervisor.restart_child, "a")
    sup.call(Supervisor.terminate_child, "a")
    clock.advance(100.0)

    assert (state(sup, "a"), script.starts) == (None, 2)


def test_a_waiting_child_does_not_hold_up_the_stop(still: Kernel) -> None:
    sup = supervise(still, [spec("a", Log(), backoff=STEADY)])
    for _ in range(2):
        end(child(sup, "a"))
    end(sup, Shutdown())

    assert gone(sup) == Shutdown()


def test_waiting_attempts_count_in_the_window(still: Kernel, clock: ManualClock) -> None:
    sup = supervise(still, [spec("a", Log(), script=Script(None, BOOM), backoff=STEADY)], max_restarts=2)
    end(child(sup, "a"))
    ids(sup)
    clock.advance(1.0)
    ids(sup)
    clock.advance(2.0)

    assert gone(sup) == Shutdown("max_restarts")


def test_a_clean_end_of_a_transient_child_does_not_wait_for_anything(still: Kernel) -> None:
    sup = supervise(still, [spec("a", Log(), backoff=STEADY, restart=TRANSIENT)])
    end(child(sup, "a"), CRASH)
    end(child(sup, "a"), Normal())

    assert state(sup, "a") is None


# --- callers' slips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_arguments_that_do_not_fit_are_the_callers_error(kernel: Kernel, arguments: Any) -> None:
    sup: Any = supervise(kernel, [spec("a", Log())])
    with pytest.raises(TypeError):
        sup.call(Supervisor.terminate_child, *arguments)

    assert ids(sup) == ["a"]


def test_an_id_that_cannot_be_one_is_not_found(kernel: Kernel) -> None:
    sup: Any = supervise(kernel)
    with pytest.raises(NotFound):
        sup.call(Supervisor.terminate_child, [])

    assert ids(sup) == []


def test_a_class_whose_own_spec_raises_does_not_harm_the_supervisor(kernel: Kernel) -> None:
    class Broken(Worker):
        @classmethod
        def child_spec(cls) -> ChildSpec:
            raise SystemExit(1)

    sup = supervise(kernel)
    with pytest.raises(StartFailed, match="Broken"):
        sup.call(Supervisor.start_child, Broken)

    assert ids(sup) == []


@pytest.mark.parametrize("inline", [False, True])
def test_a_child_that_calls_its_supervisor_from_init_fails_at_once(kernel: Kernel, inline: bool) -> None:
    sup = supervise(kernel)

    class Clingy(Actor):
        def init(self) -> None:
            sup.within(1000).call(Supervisor.which_children)

    Clingy.inline = inline
    with pytest.raises(StartFailed) as caught:
        sup.call(Supervisor.start_child, ChildSpec("a", Clingy))

    assert isinstance(caught.value.cause, CallCycle)
