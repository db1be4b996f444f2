"""Section S: starting a tree."""

from __future__ import annotations

import time
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock, Timer
from supervisors.errors import AlreadyStarted, CallTimeout, StartFailed
from supervisors.exits import Exit, Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, Restart
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.conformance.actors import (
    KINDS,
    Background,
    Gate,
    Script,
    Worker,
    alive,
    api,
    child,
    counts,
    end_child,
    finish,
    ids,
    let_time_pass,
    letters,
    spec,
    states,
    stop,
    supervise,
    worker,
)
from tests.conformance.words import BOOM, CRASH, down, recorded, word

kinds = pytest.mark.parametrize("cls", KINDS)


class HeldStart(Worker):
    """Its `init` waits at a gate."""

    def init(self, name: str, log: Log, script: Script | None = None, gate: Gate | None = None) -> Any:
        if gate is not None:
            gate.pass_()
        return super().init(name, log, script)


def failure(kernel: Kernel, cls: type[Worker] = Worker, script: Script | None = None) -> BaseException:
    """Why `start_child` of a child that does not come up fails."""
    with pytest.raises(StartFailed) as caught:
        supervise(kernel).call(Supervisor.start_child, spec("a", Log(), cls, script))
    return caught.value.cause


def test_s01_children_start_one_after_the_other_in_order(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    starting = Background(supervise, kernel, [spec("a", log, HeldStart, gate=gate), *letters("bc", log)])
    gate.reached()
    before = log.events
    gate.open()
    starting.value()

    assert (before, log.events) == ([], recorded("S01"))


def test_s02_a_start_returns_when_all_children_are_up(kernel: Kernel) -> None:
    log, gate = Log(), Gate()
    starting = Background(supervise, kernel, [*letters("ab", log), spec("c", log, HeldStart, gate=gate)])
    gate.reached()
    returned_early = starting.done()
    gate.open()
    starting.value()

    assert {"returned_early": returned_early, "log": log.events} == recorded("S02")


def test_s03_a_failing_start_stops_those_before_it_in_reverse(kernel: Kernel) -> None:
    log, otp = Log(), recorded("S03")
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, [*letters("ab", log), spec("c", log, script=Script(BOOM)), spec("d", log)])
    assert isinstance(caught.value.cause, StartFailed)

    assert (log, caught.value.cause.id) == (otp["log"], otp["failed"])
    assert caught.value.cause.cause is BOOM


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_s04_an_init_that_wants_out_is_a_failed_start_whatever_the_reason(kernel: Kernel, error: BaseException) -> None:
    assert set(recorded("S04").values()) == {"error"}
    assert failure(kernel, script=Script(error)) is error


@kinds
@pytest.mark.parametrize(
    ("how", "exit"), [("stop_normal", Normal()), ("stop_shutdown", Shutdown()), ("stop_bad", CRASH)]
)
def test_s04_a_stop_in_init_is_a_failed_start_whatever_the_reason(
    kernel: Kernel, cls: type[Worker], how: str, exit: Exit
) -> None:
    class Stopping(cls):  # type: ignore[misc, valid-type]
        def init(self, *args: Any, **kwargs: Any) -> None:
            super().init(*args, **kwargs)
            self.stop(exit)

    sup, log = supervise(kernel), Log()
    told = api(sup, Supervisor.start_child, spec("a", log, Stopping))

    assert ("error" if told == "start_failed" else told, ids(sup), log.events) == (recorded("S04")[how], [], ["+a"])


def test_s04_an_exit_sent_during_init_is_a_failed_start_too(kernel: Kernel) -> None:
    class Told(Worker):
        def init(self, *args: Any, **kwargs: Any) -> Any:
            self.ref.exit(Normal())
            return super().init(*args, **kwargs)

    sup = supervise(kernel)
    told = api(sup, Supervisor.start_child, spec("a", Log(), Told, restart=Restart.TEMPORARY))

    assert (told, ids(sup)) == ("start_failed", [])


def test_s05_the_failure_is_the_exception_with_its_traceback(kernel: Kernel) -> None:
    cause = failure(kernel, script=Script(BOOM))
    assert (cause is BOOM, cause.__traceback__ is not None) == (True, recorded("S05")["has_stack"])


@kinds
def test_s06_an_init_that_gives_something_odd_is_a_failed_start(kernel: Kernel, cls: type[Worker]) -> None:
    assert recorded("S06") == {"answer": "bad_return_value", "value": 42}
    assert "gave int" in str(failure(kernel, cls, Script(42)))


@pytest.mark.parametrize("restart", list(Restart))
def test_s07_an_ignoring_child_is_kept_unless_it_is_temporary(kernel: Kernel, restart: Restart) -> None:
    otp = recorded("S07")[restart.value]
    sup = supervise(kernel, [spec("a", Log(), script=Script(IGNORE), restart=restart)])

    assert (states(sup), counts(sup)) == (otp["states"], otp["counts"])


def tells_more(kernel: Kernel, log: Log) -> tuple[Ref[Worker], str]:
    """A start function that gives the child and something beside it."""
    return kernel.spawn(Worker, "a", log), "info"


STARTS: dict[str, BaseException | None] = {
    "raises": ValueError("no"),
    "exits": SystemExit(1),
    "throws": KeyboardInterrupt(),
    "garbage": None,
}


@pytest.mark.parametrize("how", STARTS)
def test_s08_a_start_function_gone_wrong_harms_nobody(kernel: Kernel, how: str) -> None:
    def start(kernel: Kernel) -> object:
        error = STARTS[how]
        if error is not None:
            raise error
        return 42

    sup = supervise(kernel)
    with pytest.raises(StartFailed):
        sup.call(Supervisor.start_child, ChildSpec("a", start))

    assert (alive(sup), ids(sup)) == (recorded("S08")[how]["alive"], recorded("S08")[how]["ids"])


def test_s09_a_start_function_may_tell_more_than_the_child(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel)
    answered: Any = sup.call(Supervisor.start_child, ChildSpec("a", tells_more, (log,)))
    end_child(sup, "a")

    assert states(sup) == {"a": "running"}
    assert {"info": answered[1], "log": log.events} == recorded("S09")


def test_s10_a_start_child_that_fails_leaves_nothing_and_does_not_count(kernel: Kernel) -> None:
    otp = recorded("S10")
    sup = supervise(kernel, letters("b", Log()), max_restarts=0)
    failed = api(sup, Supervisor.start_child, spec("a", Log(), script=Script(BOOM)))

    assert (failed, ids(sup), alive(sup)) == ("start_failed", otp["ids"], otp["alive"])


def test_s11_a_restart_child_that_fails_leaves_the_child_stopped(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(None, BOOM, None))])
    sup.call(Supervisor.terminate_child, "a")
    failed = api(sup, Supervisor.restart_child, "a")

    assert (failed, states(sup)) == ("start_failed", recorded("S11")["states"])
    assert api(sup, Supervisor.restart_child, "a") == recorded("S11")["again"]


def dies_meanwhile(kernel: Kernel, log: Log, more: list[ChildSpec]) -> Background:
    """Start a, b and more; a dies while b is in its `init`."""
    gate, name = Gate(), Registry().via("first")
    first = [spec("a", log, name=name), spec("b", log, HeldStart, gate=gate)]
    starting = Background(supervise, kernel, [*first, *more])
    gate.reached()
    ref = name.whereis()
    assert ref is not None
    finish(ref)
    gate.open()
    return starting


def test_s12_a_child_that_dies_while_a_sibling_starts_is_restarted(kernel: Kernel) -> None:
    log = Log()
    sup = dies_meanwhile(kernel, log, []).value()

    assert states(sup) == recorded("S12")["answer"]
    stop(sup)
    assert log == recorded("S12")["log"]


def test_s12_a_child_that_is_dead_when_its_start_returns_is_restarted(kernel: Kernel) -> None:
    starts: list[Ref[Worker]] = []

    def start(kernel: Kernel) -> Ref[Worker]:
        ref = kernel.spawn(Worker, "a", Log())
        starts.append(ref)
        if len(starts) == 1:
            finish(ref)
        return ref

    sup = supervise(kernel, [ChildSpec("a", start)])

    assert states(sup) == {"a": "running"}
    assert child(sup, "a") is starts[1]


def test_s13_a_failing_start_skips_a_child_that_is_dead_already(kernel: Kernel) -> None:
    log = Log()
    with pytest.raises(StartFailed):
        dies_meanwhile(kernel, log, [spec("c", log, script=Script(BOOM))]).value()

    assert log == recorded("S13")["log"]


def test_s14_a_start_that_hangs_holds_its_supervisor_only_for_its_start_timeout(
    still: Kernel, clock: ManualClock
) -> None:
    assert recorded("S14") == {"while_starting": "timeout"}
    sup = supervise(still)
    with Gate() as gate:
        made = spec("a", Log(), HeldStart, gate=gate, start_timeout=2.0)
        starting = Background(sup.within(None).call, Supervisor.start_child, made)
        gate.reached()
        asked = sup.send_request(Supervisor.which_children)
        clock.advance(1.0)
        held = not asked.done()
        let_time_pass(clock, starting.done)
        with pytest.raises(StartFailed):
            starting.value()

        assert (held, asked.get(5)) == (True, [])
        assert [ref.actor_class for ref in still.live()] == [Supervisor]  # what had begun is dead


def test_s15_a_start_beyond_its_time_fails_and_what_began_is_killed(still: Kernel, clock: ManualClock) -> None:
    log, refs = Log(), []

    class Slow(HeldStart):
        def init(self, *args: Any, **kwargs: Any) -> Any:
            refs.append(self.ref)
            return super().init(*args, **kwargs)

    with Gate() as gate:
        starting = Background(lambda: still.spawn(Slow, "a", log, gate=gate, start_timeout=1.0))
        gate.reached()
        let_time_pass(clock, starting.done)
        with pytest.raises(StartFailed) as caught:
            starting.value()

        assert (isinstance(caught.value.cause, CallTimeout), down(refs[0])) == (True, "killed")
        assert log == recorded("S15")["log"]


def test_s16_a_taken_name_tells_who_has_it(kernel: Kernel) -> None:
    name = Registry().via("taken")
    first = kernel.spawn(Worker, "x", Log(), name=name)
    with pytest.raises(AlreadyStarted) as caught:
        kernel.spawn(Worker, "y", Log(), name=name)

    assert (caught.value.ref is first) == recorded("S16")["same"]


def test_s16_a_taken_name_is_a_failed_start_of_the_tree(kernel: Kernel) -> None:
    name = Registry().via("taken")
    kernel.spawn(Worker, "x", Log(), name=name)

    assert recorded("S16")["child"] == "error"
    with pytest.raises(StartFailed):
        supervise(kernel, [spec("y", Log(), name=name)])


@pytest.mark.parametrize("exit", [Shutdown(), CRASH, Killed()])
def test_s17_a_start_with_a_parent_is_linked_and_one_without_is_not(kernel: Kernel, exit: Exit) -> None:
    parent, free = worker(kernel), worker(kernel)
    linked = kernel.spawn(Worker, "a", Log(), parent=parent)
    assert isinstance(linked, Ref)
    finish(parent, exit)

    assert (down(linked), free.is_alive()) == (word(exit), True)


def test_s18_what_init_continues_with_runs_before_any_other_message(kernel: Kernel) -> None:
    log = Log()

    class Early:
        label = "early"

        def claim(self, ref: Ref[Worker]) -> None:
            ref.cast(Worker.note, "call")

    class Continues(Worker):
        def init(self, *args: Any, **kwargs: Any) -> Any:
            self.continue_with(Worker.note, "continue")
            return super().init(*args, **kwargs)

    ref = kernel.spawn(Continues, "a", log, name=Early())
    assert isinstance(ref, Ref)
    ref.call(Worker.hello)

    assert log == recorded("S18")


def test_s18_a_start_does_not_wait_for_what_init_continues_with(kernel: Kernel) -> None:
    class Continues(Worker):
        def init(self, name: str, log: Log, gate: Gate) -> Any:  # type: ignore[override]
            self.continue_with(Worker.hold, gate)
            return super().init(name, log)

    with Gate() as gate:
        ref = kernel.spawn(Continues, "a", Log(), gate=gate)
        gate.reached()

        assert isinstance(ref, Ref)


def test_s19_a_timer_set_in_init_stands_for_the_idle_timeout(still: Kernel, clock: ManualClock) -> None:
    class Idle(Worker):
        timer: Timer

        def init(self, *args: Any, **kwargs: Any) -> Any:
            self.timer = self.send_after(1.0, Worker.note, "timeout")
            return super().init(*args, **kwargs)

        def hello(self) -> str:
            self.timer.cancel()
            return super().hello()

    log = Log()
    a, b = still.spawn(Idle, "a", log), still.spawn(Idle, "b", log)
    b.call(Idle.hello)
    clock.advance(2.0)
    a.call(Idle.hello)

    assert log == recorded("S19")


def test_s20_starting_and_stopping_children_is_linear_in_their_number(kernel: Kernel) -> None:
    class Plain(Actor):
        inline = True

    def seconds(number: int) -> float:
        specs = [ChildSpec(n, Plain) for n in range(number)]
        began = time.process_time()
        stop(supervise(kernel, specs))
        return time.process_time() - began

    seconds(100)
    few = min(seconds(100) for _ in range(3))
    assert seconds(2000) < 20 * few * 4
