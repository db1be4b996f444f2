"""Section V: calls, replies and how a server ends."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any

import pytest
import structlog

from supervisors import sys
from supervisors.actor import Actor
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, CallCycle, CallTimeout, StartFailed, UnknownMessage
from supervisors.exits import Crash, Normal
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.system import System
from supervisors.tasks import Tasks, TaskSupervisor
from supervisors.testing import Log, wait_until
from tests.conformance.actors import (
    ENDS,
    KINDS,
    Background,
    BadEnd,
    Gate,
    InlineWorker,
    LoopWorker,
    Script,
    SlowEnd,
    Worker,
    alive,
    answer,
    child,
    finish,
    let_time_pass,
    spec,
    worker,
)
from tests.conformance.test_restart import written as written  # the fixture
from tests.conformance.words import BOOM, EXITS, down, recorded, word

kinds = pytest.mark.parametrize("cls", KINDS)
ends = pytest.mark.parametrize(("cls", "how"), ENDS)


def told(ref: Ref[Any], method: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What the caller gets, as recorded: an answer, or how the server died."""
    try:
        return {"answer": ref.call(method, *args, **kwargs)}
    except ActorDied as died:
        return {"died": word(died.exit)}


def test_v01_a_call_that_times_out_leaves_the_server_and_no_late_reply(still: Kernel, clock: ManualClock) -> None:
    ref = worker(still)
    with Gate() as gate:
        call = Background(ref.within(1.0).call, Worker.hold, gate)
        gate.reached()
        let_time_pass(clock, call.done)
        with pytest.raises(CallTimeout):
            call.value()

    assert {"call": "timeout", "next": ref.call(Worker.hello), "mailbox": "empty"} == recorded("V01")


@kinds
def test_v02_a_call_to_the_dead_or_to_nobody_fails_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    ref, nobody = worker(kernel, cls=cls), Registry().via("nobody has this name")
    finish(ref)

    assert [told(ref, Worker.hello), told(nobody, Worker.hello)] == recorded("V02")  # type: ignore[arg-type]


@kinds
def test_v02_a_request_to_the_dead_is_answered_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    ref = worker(kernel, cls=cls)
    finish(ref)

    assert isinstance(ref.send_request(Worker.hello).exception(), ActorDied)


@pytest.mark.parametrize("cls", [cls for cls in KINDS if not cls.inline])  # who is inline promises not to block
def test_v03_a_server_that_is_killed_fails_the_call_in_hand_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    ref = worker(kernel, cls=cls)
    with Gate() as gate:
        call = Background(told, ref, Worker.hold, gate)
        gate.reached()
        ref.fence()

        assert call.value() == recorded("V03")["killed"]
    wait_until(lambda: kernel.zombies == 0)


@ends
def test_v03_a_server_that_dies_fails_the_calls_it_has_with_its_exit(
    kernel: Kernel, cls: type[Worker], how: str
) -> None:
    ref = worker(kernel, cls=cls)
    reply = ref.send_request(Worker.late)
    ref.call(Worker.hello)
    finish(ref, how)
    error = reply.exception()
    assert isinstance(error, ActorDied)

    assert {"died": word(error.exit)} == recorded("V03")[how]


@kinds
@pytest.mark.parametrize("error", [BOOM, SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_v04_what_a_handler_raises_ends_it_and_tells_the_caller(
    kernel: Kernel, cls: type[Worker], error: BaseException
) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    seen = {"caller": told(ref, Worker.crash, error), "down": down(ref), "log": log.events}

    assert seen == recorded("V04")["raises"] == recorded("V04")["exits"]


@kinds
def test_v04_the_callers_error_has_the_exception_as_its_cause(kernel: Kernel, cls: type[Worker]) -> None:
    with pytest.raises(ActorDied) as caught:
        worker(kernel, cls=cls).call(Worker.crash, BOOM)

    assert (caught.value.exit, caught.value.__cause__) == (Crash(BOOM), BOOM)


@kinds
@pytest.mark.parametrize("how", ["normal", "shutdown", "crash"])
def test_v05_a_stop_with_a_reply_answers_and_ends(kernel: Kernel, cls: type[Worker], how: str) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    caller = told(ref, Worker.end, EXITS[how], "bye")

    assert {"caller": caller, "down": down(ref), "log": log.events} == recorded("V05")[how]


@kinds
@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown done", "crash"])
def test_v06_a_stop_without_a_reply_fails_the_call_with_the_exit(kernel: Kernel, cls: type[Worker], how: str) -> None:
    ref = worker(kernel, cls=cls)

    assert {"caller": told(ref, Worker.end, EXITS[how]), "down": down(ref)} == recorded("V06")[how]


@kinds
def test_v07_a_deferred_reply_comes_from_anybody_and_others_are_served(kernel: Kernel, cls: type[Worker]) -> None:
    class Settles(cls):  # type: ignore[misc, valid-type]
        def hand_out(self) -> Any:
            return [self.kept]

    ref: Ref[Any] = worker(kernel, cls=Settles)
    reply = ref.send_request(Worker.late)
    meanwhile = ref.call(Worker.hello)
    (kept,) = ref.call(Settles.hand_out)
    Background(kept.set, "from_a_third").value()

    assert {"meanwhile": meanwhile, "answer": reply.get(5)} == recorded("V07")


def test_v08_a_call_that_nobody_answers_times_out_and_the_server_lives(still: Kernel, clock: ManualClock) -> None:
    ref = worker(still)
    call = Background(ref.within(1.0).call, Worker.late)
    let_time_pass(clock, call.done)
    with pytest.raises(CallTimeout):
        call.value()

    assert {"call": "timeout", "alive": ref.is_alive()} == recorded("V08")


@kinds
def test_v09_the_second_reply_is_ignored(kernel: Kernel, cls: type[Worker]) -> None:
    class Twice(cls):  # type: ignore[misc, valid-type]
        def twice(self) -> Any:
            reply = self.defer()
            reply.set("first")
            reply.set("second")
            return reply

    ref: Ref[Any] = worker(kernel, cls=Twice)

    assert {"answer": ref.call(Twice.twice), "alive": ref.is_alive()} == recorded("V09")


@kinds
def test_v10_a_call_to_oneself_is_refused_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    class Selfish(cls):  # type: ignore[misc, valid-type]
        def ask_myself(self) -> str:
            try:
                return str(self.ref.call(Worker.hello))
            except CallCycle:
                return "calling_self"

    ref: Ref[Any] = worker(kernel, cls=Selfish)
    if cls is LoopWorker:
        with pytest.raises(ActorDied):  # on a loop a blocking call is refused before anything else
            ref.call(Selfish.ask_myself)
    else:
        assert ref.call(Selfish.ask_myself) == recorded("V10")


def test_v10_an_awaited_call_to_oneself_is_refused_at_once(kernel: Kernel) -> None:
    class Selfish(LoopWorker):
        async def ask_myself(self) -> str:
            try:
                return await self.ref.acall(Worker.hello)
            except CallCycle:
                return "calling_self"

    ref: Ref[Any] = worker(kernel, cls=Selfish)

    assert ref.call(Selfish.ask_myself) == recorded("V10")


def test_v10_who_would_wait_for_himself_by_way_of_another_is_told_at_once_too(kernel: Kernel) -> None:
    class Asking(LoopWorker):
        async def ask(self, other: Ref[Any], back: Ref[Any] | None) -> str:
            try:
                return await (other.acall(Asking.ask, back, None) if back is not None else other.acall(Worker.hello))
            except CallCycle:
                return "calling_self"

    a, b = (worker(kernel, cls=Asking) for _ in "ab")

    assert a.within(60).call(Asking.ask, b, a) == recorded("V10")


@kinds
def test_v11_a_cast_to_the_dead_or_to_nobody_is_dropped(kernel: Kernel, cls: type[Worker]) -> None:
    ref, nobody = worker(kernel, cls=cls), Registry().via("nobody has this name")
    finish(ref)

    assert [answer(ref.cast, Worker.hello), answer(nobody.cast, Worker.hello)] == recorded("V11")


@kinds
def test_v12_an_unknown_message_is_logged_and_ignored(
    kernel: Kernel, cls: type[Worker], caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(cls):  # type: ignore[misc, valid-type]
        on_info = Actor.on_info

    ref = worker(kernel, cls=Deaf)
    ref.tell("unheard of")

    assert {"alive": ref.call(Worker.hello) == "a"} == recorded("V12")
    assert "unheard of" in caplog.text


@kinds
def test_v13_a_method_it_does_not_have_is_refused_in_the_caller(kernel: Kernel, cls: type[Worker]) -> None:
    assert recorded("V13") == {"caller": {"died": "crash"}, "down": "crash"}
    ref = worker(kernel, cls=cls)
    for send in (ref.call, ref.cast):
        with pytest.raises(UnknownMessage):
            send(SlowEnd.terminate, None)  # type: ignore[arg-type, call-overload]

    assert ref.is_alive()


WAYS: dict[str, Any] = {
    "stop": lambda ref: ref.cast(Worker.end, Normal()),
    "crash": lambda ref: ref.cast(Worker.crash),
    "kill": lambda ref: ref.fence(),
}


@kinds
@pytest.mark.parametrize("how", WAYS)
def test_v14_terminate_runs_at_every_end_but_a_kill(kernel: Kernel, cls: type[Worker], how: str) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    WAYS[how](ref)
    down(ref)

    assert log == recorded("V14")[how]


@kinds
def test_v15_a_terminate_that_raises_is_the_exit(kernel: Kernel, cls: type[Worker]) -> None:
    class Bad(BadEnd, cls):  # type: ignore[misc, valid-type]
        pass

    log = Log()
    ref: Ref[Any] = worker(kernel, log, Bad)
    ref.cast(Worker.end, Normal())

    assert {"down": down(ref), "log": log.events} == recorded("V15")


@kinds
def test_v16_a_stop_is_synchronous_and_normal(kernel: Kernel, cls: type[Worker]) -> None:
    ref = worker(kernel, cls=cls)
    stopped = ref.stop()

    assert {"answer": "ok" if stopped else "error", "down": down(ref)}.items() <= recorded("V16").items()
    assert ref.stop() is False  # pykka's word for noproc


def test_v16_a_stop_that_times_out_goes_on(still: Kernel, clock: ManualClock) -> None:
    log, gate = Log(), Gate()
    ref = still.spawn(SlowEnd, "a", log, None, gate)
    stopping = Background(lambda: ref.stop(timeout=1.0))
    log.wait_for("<a")
    let_time_pass(clock, stopping.done)
    with pytest.raises(TimeoutError):
        stopping.value()
    gate.open()

    assert down(ref) == recorded("V16")["ends_later"]


@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown done", "crash"])
def test_v17_only_a_crash_is_reported(written: list[str], how: str) -> None:
    with System() as system:
        ref: Ref[Any] = system.spawn(Worker, "a", Log())
        told(ref, Worker.end, EXITS[how])

    assert written == ["actor.crash"] * recorded("V17")[how]


@kinds
def test_v18_an_init_that_raises_fails_the_start_and_leaves_nothing(kernel: Kernel, cls: type[Worker]) -> None:
    assert {recorded("V18")[how]["exit"] for how in ("stops", "raises")} == {"crash"}
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(cls, "a", Log(), Script(BOOM))

    assert (caught.value.cause, kernel.live()) == (BOOM, [])


@ends
def test_v19_the_name_of_the_dead_is_free_at_once(kernel: Kernel, cls: type[Worker], how: str) -> None:
    name = Registry().via("reborn")
    finish(kernel.spawn(cls, "a", Log(), name=name), how)

    assert answer(lambda: kernel.spawn(cls, "b", Log(), name=name)) == recorded("V19")


@kinds
def test_v20_the_messages_of_one_sender_are_handled_in_order(kernel: Kernel, cls: type[Worker]) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    ref.cast(Worker.note, "1")
    ref.tell("2")
    ref.call(Worker.note, "3")
    ref.cast(Worker.note, "4")
    ref.call(Worker.hello)

    assert log == recorded("V20")


@pytest.mark.parametrize("cls", [cls for cls in KINDS if not cls.inline])
def test_v20_an_exit_overtakes_what_is_queued(kernel: Kernel, cls: type[Worker]) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    with Gate() as gate:
        ref.cast(Worker.hold, gate)
        gate.reached()
        ref.cast(Worker.note, "never")
        ref.exit(EXITS["shutdown"])
    down(ref)

    assert log == ["-a shutdown"]


@pytest.mark.parametrize("cls", [Worker, InlineWorker])
def test_v23_a_call_does_not_cost_more_where_the_caller_has_a_backlog(kernel: Kernel, cls: type[Worker]) -> None:
    class Asks(Worker):
        def seconds_of_calls(self, ref: Ref[Worker]) -> float:
            began = time.thread_time()
            for _ in range(200):
                ref.call(Worker.hello)
            return time.thread_time() - began

    target = worker(kernel, cls=cls)
    caller: Ref[Any] = worker(kernel, cls=Asks)
    alone = min(caller.call(Asks.seconds_of_calls, target) for _ in range(3))
    with Gate() as gate:
        caller.cast(Worker.hold, gate)
        gate.reached()
        times = [caller.send_request(Asks.seconds_of_calls, target) for _ in range(3)]
        for _ in range(20_000):
            caller.cast(Worker.hello)
    crowded = min(each.get(30) for each in times)
    caller.within(60).call(Worker.hello)

    assert crowded < 5 * alone + 0.01


def test_v21_a_server_is_looked_into_and_held_from_outside(still: Kernel, clock: ManualClock) -> None:
    ref = worker(still)
    ref.call(Worker.bump, 2)
    before = sys.get_state(ref)["value"]
    sys.replace_state(ref, lambda state: state | {"value": 40})
    after = ref.call(Worker.bump, 2)
    sys.statistics(ref, True)
    for _ in range(2):
        ref.call(Worker.hello)
    counted = sys.statistics(ref) or {}
    sys.suspend(ref)
    call = Background(ref.within(1.0).call, Worker.hello)
    let_time_pass(clock, call.done)
    seen = sys.get_state(ref)["value"]
    sys.resume(ref)
    with pytest.raises(CallTimeout):
        call.value()

    assert {
        "state": before,
        "replaced": after,
        "messages_in": counted["messages_in"],
        "suspended": "timeout",
        "still_answers_sys": seen,
        "resumed": Background(ref.call, Worker.hello).value(),
    } == recorded("V21")


@kinds
def test_v21_a_suspended_server_keeps_its_messages_and_can_be_stopped(kernel: Kernel, cls: type[Worker]) -> None:
    log = Log()
    ref = worker(kernel, log, cls)
    sys.suspend(ref)
    ref.cast(Worker.note, "later")
    held = (sys.get_status(ref)["sys_state"], log.events)
    sys.resume(ref)
    ref.call(Worker.hello)
    sys.suspend(ref)
    finish(ref, "shutdown")

    assert (held, log.events) == (("suspended", []), ["later", "-a shutdown"])


@kinds
def test_v21_a_status_hides_what_the_actor_hides(kernel: Kernel, cls: type[Worker]) -> None:
    class Discreet(cls):  # type: ignore[misc, valid-type]
        def format_status(self, status: Any) -> Any:
            return {**status, "state": {"key": "hidden"}}

    assert sys.get_status(worker(kernel, cls=Discreet))["state"] == {"key": "hidden"}


def test_v24_a_report_names_who_started_the_dead_and_who_waits_for_it() -> None:
    found: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append(dict(fields))
        raise structlog.DropEvent

    class Caller(Worker):
        def ask(self, ref: Ref[Any]) -> None:
            ref.call(Worker.crash)

    structlog.configure(processors=[keep])
    try:
        with System(children=[spec("a", Log())]) as system:
            caller = system.spawn(Caller, "c", Log())
            told(caller, Caller.ask, child(system.root, "a"))
            alive(system.root)
            name = caller.name
    finally:
        structlog.reset_defaults()
    report = next(fields for fields in found if fields["event"] == "supervisor.child_terminated")

    assert (report["ancestors"], report["callers"]) == (["root"], [name])


def test_v24_a_task_runs_in_the_context_of_its_caller(kernel: Kernel) -> None:
    colour: ContextVar[str] = ContextVar("colour")
    colour.set("red")

    assert Tasks(kernel.spawn(TaskSupervisor)).async_nolink(colour.get).result() == "red"
