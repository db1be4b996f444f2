"""What supervisors do beyond OTP, or only where one asks for it: batches that end, starts that tell more."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from supervisors.dynamic import DynamicSupervisor
from supervisors.exits import Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.spec import INFINITY, AutoShutdown, ChildSpec, ChildType
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.supervisors.workers import BOOM, TEMPORARY, TRANSIENT, Worker, child, end, gone, ids, spec, supervise

ANY, EVERY = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT


def batch(kernel: Kernel, mode: AutoShutdown, *specs: ChildSpec) -> tuple[Ref[DynamicSupervisor], list[Ref[Any]]]:
    """A dynamic supervisor with these children."""
    sup = kernel.spawn(DynamicSupervisor, auto_shutdown=mode)
    return sup, [sup.call(DynamicSupervisor.start_child, each) for each in specs]


def jobs(*names: str, **fields: Any) -> list[ChildSpec]:
    return [spec(name, Log(), restart=TEMPORARY, significant=True, **fields) for name in names]


def running(sup: Ref[DynamicSupervisor]) -> int:
    return sup.call(DynamicSupervisor.count_children).active


def test_a_batch_is_over_when_its_last_job_is(kernel: Kernel) -> None:
    sup, refs = batch(kernel, EVERY, *jobs("a", "b"))
    end(refs[0], Normal())
    left = running(sup)
    end(refs[1])
    assert (left, gone(sup)) == (1, Shutdown("auto_shutdown"))


def test_a_batch_may_be_over_with_its_first_job(kernel: Kernel) -> None:
    log = Log()
    sup, refs = batch(kernel, ANY, *jobs("a"), spec("other", log))
    end(refs[0], Normal())
    assert (gone(sup), log.events) == (Shutdown("auto_shutdown"), ["+other", "-other"])


def test_a_job_that_is_restarted_is_not_over(kernel: Kernel) -> None:
    sup, (ref,) = batch(kernel, EVERY, spec("a", Log(), restart=TRANSIENT, significant=True))
    end(ref)
    assert running(sup) == 1


def test_others_do_not_matter_for_a_batch(kernel: Kernel) -> None:
    sup, refs = batch(kernel, EVERY, *jobs("a"), spec("other", Log(), restart=TEMPORARY))
    end(refs[1])
    assert running(sup) == 1


def test_a_job_that_is_terminated_does_not_end_the_batch(kernel: Kernel) -> None:
    sup, refs = batch(kernel, EVERY, *jobs("a"))
    sup.call(DynamicSupervisor.terminate_child, refs[0])
    assert running(sup) == 0


def test_a_job_needs_a_batch_to_be_significant_for(kernel: Kernel) -> None:
    sup = kernel.spawn(DynamicSupervisor)
    with pytest.raises(Exception, match="while auto_shutdown is NEVER"):
        sup.call(DynamicSupervisor.start_child, jobs("a")[0])
    with pytest.raises(Exception, match="auto_shutdown cannot be"):
        kernel.spawn(DynamicSupervisor, auto_shutdown="never")


# starts that give more than a ref


def with_port(kernel: Kernel, log: Log, *failures: Any) -> Any:
    if failures and log.events:
        raise failures[0]
    return kernel.spawn(Worker, "a", log), {"port": 80}


def test_what_a_start_function_tells_goes_to_whoever_starts_the_child(kernel: Kernel) -> None:
    sup = supervise(kernel, [])
    ref, info = sup.call(Supervisor.start_child, ChildSpec("a", with_port, (Log(),)))
    assert (ref is child(sup, "a"), info) == (True, {"port": 80})
    sup.call(Supervisor.terminate_child, "a")
    _, again = sup.call(Supervisor.restart_child, "a")
    assert again == {"port": 80}


def test_a_dynamic_child_may_tell_more_too(kernel: Kernel) -> None:
    sup = kernel.spawn(DynamicSupervisor)
    ref, info = sup.call(DynamicSupervisor.start_child, ChildSpec("a", with_port, (Log(),)))
    assert (ref.is_alive(), info) == (True, {"port": 80})


def test_what_it_tells_is_of_no_use_to_a_restart(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [ChildSpec("a", with_port, (log,))])
    end(child(sup, "a"))
    assert (ids(sup), log.events) == (["a"], ["+a", "xa", "+a"])


def test_a_failed_restart_by_hand_tells_nothing_of_the_life_before(kernel: Kernel) -> None:
    sup = supervise(kernel, [ChildSpec("a", with_port, (Log(), BOOM))])
    sup.call(Supervisor.terminate_child, "a")
    with pytest.raises(Exception, match="boom"):
        sup.call(Supervisor.restart_child, "a")


# a supervisor that may be fenced


@pytest.mark.parametrize(("shutdown", "said"), [(5.0, 1), (INFINITY, 0)])
def test_a_supervisor_with_little_time_to_stop_is_noted(
    caplog: pytest.LogCaptureFixture, shutdown: float, said: int
) -> None:
    with caplog.at_level(logging.INFO, "supervisors"):
        ChildSpec("a", Supervisor, ([],), {"strategy": Strategy.ONE_FOR_ONE}, shutdown=shutdown)
        ChildSpec("b", Worker, shutdown=1.0, type=ChildType.WORKER)
    assert len(caplog.records) == said
