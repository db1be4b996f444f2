"""A system: everything starts and ends with it, and nothing of it is process-wide."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.errors import BlockingCallOnLoop, CallCycle, NoSystem, SpecError, StartFailed, SystemStopped
from supervisors.exits import Exit, Killed, Shutdown
from supervisors.ref import Ref
from supervisors.spec import ChildSpec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.tasks import Tasks, TaskSupervisor
from supervisors.telemetry import Telemetry
from supervisors.testing import Log, no_leaks
from tests.supervisors.workers import BOOM, CRASH, TEMPORARY, Script, Worker, child, end, gone, ids, spec


def test_a_system_starts_its_children_and_stops_them_in_reverse() -> None:
    log = Log()
    with System(children=[spec(name, log) for name in "abc"]):
        pass

    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_actors_without_a_supervisor_end_after_the_tree() -> None:
    log = Log()
    with System() as system:
        system.spawn(Worker, "lone", log)
        system.start_child(spec("a", log))

    assert log == ["+lone", "+a", "-a", "-lone"]


class Teller(Actor):
    """Writes down how it was ended."""

    def init(self, name: str, log: Log) -> None:
        self.label, self.log = name, log

    def terminate(self, exit: Exit) -> None:
        self.log.add(self.label, exit)


def test_a_spawned_supervisor_stops_its_children_itself_at_the_shutdown(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    tellers = [ChildSpec(name, Teller, (name, log)) for name in "abc"]
    with System() as system:
        system.spawn(Supervisor, tellers, strategy=Strategy.ONE_FOR_ONE)

    assert log == [("c", Shutdown()), ("b", Shutdown()), ("a", Shutdown())]
    assert capsys.readouterr().err == ""  # where reports go: a clean end is none


def test_children_of_a_supervisor_that_hangs_end_with_the_system() -> None:
    log, began, until = Log(), threading.Event(), threading.Event()
    system = System().start()
    top = system.spawn(Hanger, [ChildSpec("a", Teller, ("a", log))], strategy=Strategy.ONE_FOR_ONE)
    top.cast(Hanger.hang, until, began)
    began.wait(5)

    assert not system.shutdown(timeout=0.3)
    assert system.kernel.live() == []
    until.set()


class Hanger(Supervisor):
    """A supervisor that can be made to hang."""

    def hang(self, until: threading.Event, began: threading.Event) -> None:
        began.set()
        until.wait(10)


def test_nothing_is_left_after_the_shutdown() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with no_leaks(), System(children=[ChildSpec("tasks", TaskSupervisor)]) as system:
        system.spawn(Sleeper).call(Sleeper.sleep)
        ref = child(system.root, "tasks")
        task = Tasks(ref).async_nolink(forever)  # type: ignore[arg-type]

    assert system.kernel.live() == []
    assert task.done()


class Sleeper(Actor):
    """Holds a timer."""

    def sleep(self) -> None:
        self.send_after(3600, Sleeper.sleep)


def test_a_start_that_fails_leaves_nothing_and_names_the_child() -> None:
    log = Log()
    system = System(children=[spec("a", log), spec("b", log, script=Script(BOOM))])
    with no_leaks(), pytest.raises(StartFailed) as caught:
        system.start()

    assert isinstance(caught.value.cause, StartFailed)
    assert (caught.value.cause.id, system.state, log.events) == ("b", "stopped", ["+a", "!b", "-a"])


def test_bad_children_are_refused_when_the_system_is_made() -> None:
    with pytest.raises(SpecError):
        System(children=[spec("a", Log()), spec("a", Log())])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pool_size", 0),
        ("pool_size", -1),
        ("pool_size", True),
        ("pool_size", "2"),
        ("max_restarts", -1),
        ("max_seconds", 0),
        ("strategy", "one_for_one"),
    ],
)
def test_senseless_options_are_refused_when_the_system_is_made(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=field):
        System(**{field: value})


def test_actors_find_the_system_that_was_entered() -> None:
    with System() as system:
        ref = Worker.start("a", Log())

    assert isinstance(ref, Ref)
    assert (ref.mailbox.home, ref.is_alive()) == (system.kernel, False)
    with pytest.raises(NoSystem):
        Worker.start("a", Log())


def test_two_systems_live_side_by_side() -> None:
    with System("one") as one, System("two") as two:
        one.spawn(Worker, "1", Log(), name="w")
        two.spawn(Worker, "2", Log(), name="w")
        said = [each.via("w").call(Worker.hello) for each in (one, two)]

    assert said == ["1", "2"]


def test_a_name_leads_to_its_holder(system: System) -> None:
    ref = system.spawn(Worker, "a", Log(), name="w")

    assert (system.whereis("w"), system.whereis("x")) == (ref, None)


def test_after_the_shutdown_everything_says_so() -> None:
    with System("old") as system:
        ref = system.spawn(Worker, "a", Log())
    uses: list[Any] = [
        system.start,
        lambda: system.spawn(Worker, "a", Log()),
        lambda: system.start_child(spec("a", Log())),
        lambda: system.via("a"),
        lambda: system.whereis("a"),
        lambda: system.root,
        lambda: ref.call(Worker.hello),
    ]

    for use in uses:
        with pytest.raises(SystemStopped, match="'old' was shut down"):
            use()


def test_before_the_start_there_is_no_system() -> None:
    with pytest.raises(NoSystem):
        System().spawn(Worker, "a", Log())


def test_shutting_down_twice_is_fine() -> None:
    system = System().start()

    assert [system.shutdown(), system.shutdown()] == [True, True]


def test_a_stuck_child_is_fenced_at_the_deadline_of_the_shutdown() -> None:
    let_go, began = threading.Event(), threading.Event()
    system = System().start()
    ref = system.start_child(spec("a", Log(), shutdown=3600))
    zombies: list[Any] = []  # the root may be another one, for the moment that it takes to notice
    system.telemetry.attach("test", ("actor", "zombie"), lambda _, __, told: zombies.append(told["ref"]))
    ref.cast(Worker.hang, let_go, began)
    began.wait(5)
    clean = system.shutdown(0.05)
    let_go.set()

    assert (clean, ref in zombies, gone(ref)) == (False, True, Killed())


def test_an_actor_cannot_shut_down_its_own_system(system: System) -> None:
    class Rebel(Actor):
        def revolt(self) -> str:
            try:
                system.shutdown()
            except CallCycle as error:
                return error.path[1]
            return "down"

    assert system.spawn(Rebel).call(Rebel.revolt) == "system"


def test_a_shutdown_on_a_running_loop_is_refused_at_once(system: System) -> None:
    async def main() -> None:
        system.shutdown()

    with pytest.raises(BlockingCallOnLoop, match="ashutdown"):
        asyncio.run(main())


def test_a_system_can_be_entered_on_a_loop() -> None:
    log = Log()

    async def main() -> str:
        async with System(children=[spec("a", log)]) as system:
            return await child_of(system).acall(Worker.hello)

    def child_of(system: System) -> Ref[Worker]:
        (ref,) = [each for each in system.kernel.live() if each.name.startswith("Worker")]
        return ref

    assert asyncio.run(main()) == "a"
    assert log == ["+a", "-a"]


def test_a_root_that_gives_up_ends_the_wait_and_is_told() -> None:
    failed = Log()
    telemetry = Telemetry()
    telemetry.attach("test", ("system", "failed"), lambda event, measurements, metadata: failed.add(metadata["name"]))
    with System("s", telemetry=telemetry, max_restarts=0, children=[spec("a", Log())]) as system:
        end(child(system.root, "a"))
        over = system.wait(5)

        assert (over, system.state, system.failure) == (True, "failed", Shutdown("max_restarts"))
    assert failed == ["s"]


def test_a_wait_may_have_an_end(system: System) -> None:
    assert not system.wait(0.001)


def test_no_signal_handler_is_installed_unasked(system: System) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_ends_the_wait_and_the_handlers_are_taken_back() -> None:
    with System() as system:
        system.install_signal_handlers()
        os.kill(os.getpid(), signal.SIGTERM)
        over = system.wait(5)

    assert over
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_does_what_it_did_before() -> None:
    with System() as system:
        system.install_signal_handlers()
        os.kill(os.getpid(), signal.SIGINT)
        system.wait(5)

        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_telemetry_tells_starts_restarts_and_ends(clock: ManualClock) -> None:
    log = Log()
    telemetry = Telemetry()
    events = [("supervisor", "child", word) for word in ("start", "restart", "terminate")]
    telemetry.attach("test", events, lambda event, measurements, metadata: log.add(event[-1], metadata["id"]))
    with System(clock=clock, telemetry=telemetry, children=[spec("a", Log())]) as system:
        end(child(system.root, "a"))
        ids(system.root)

    assert log == [
        ("start", "a"),
        ("terminate", "a"),
        ("start", "a"),
        ("restart", "a"),
        ("terminate", "a"),
    ]


def test_importing_the_package_loads_no_logger() -> None:
    check = "import sys, supervisors; print(sorted({'structlog', 'rich', 'httpx', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_system_that_does_well_loads_no_logger() -> None:
    check = """
import sys
from supervisors import Actor, ChildSpec, System
class A(Actor):
    pass
with System(children=[ChildSpec("a", A, restart=__import__("supervisors").Restart.TEMPORARY)]) as system:
    system.kernel.live()[1].stop()
print("structlog" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_everything_public_is_told_in_the_tour() -> None:
    import doctest

    import supervisors

    assert doctest.testmod(supervisors).failed == 0


def test_the_root_is_a_supervisor_like_any_other(system: System) -> None:
    ended: list[Exit] = []
    ref = system.start_child(spec("a", Log(), restart=TEMPORARY))
    end(ref, CRASH)
    ended.append(gone(ref))

    assert (ended, system.root.call(Supervisor.which_children)) == ([CRASH], [])
