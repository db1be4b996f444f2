"""Looking into running actors: they answer themselves, in order, also while they are suspended."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisors import holding, sys
from supervisors.cell import Cell
from supervisors.clock import ManualClock
from supervisors.errors import ActorDied, CallCycle, CallTimeout, Fenced, MailboxFull, SpecError
from supervisors.exits import Killed, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec
from supervisors.stopping import stop
from supervisors.system import System
from supervisors.testing import wait_until
from supervisors.watched import Event
from tests.supervisors.actors import KINDS, Background, Counter, OnLoop, in_thread, spawn
from tests.supervisors.workers import BOOM, child, spec, supervise

kinds = pytest.mark.parametrize("cls", KINDS)


class Discreet(Counter):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"state": {"value": "hidden"}, "log": ["hidden"] if status["log"] else []}


class Bounded(Counter):
    mailbox = 1


def set_value(value: int) -> Any:
    return lambda state: {**state, "value": value}


def blocked(ref: Ref[Any]) -> threading.Event:
    """The actor sits in a handler until the event is set."""
    go, began = threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    assert began.wait(5)
    return go


# state


@kinds
def test_the_state_is_the_attributes(kernel: Kernel, cls: type[Counter]) -> None:
    assert sys.get_state(spawn(kernel, cls, 7)) == {"value": 7, "log": [], "kept": None}


@kinds
def test_the_state_is_read_behind_what_was_sent_before(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    for _ in range(100):
        ref.cast(Counter.add, 1)
    assert sys.get_state(ref)["value"] == 100


@kinds
def test_the_state_can_be_replaced(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert sys.replace_state(ref, set_value(41))["value"] == 41
    assert ref.call(Counter.add, 1) == 42


def test_what_a_new_state_lacks_is_gone(kernel: Kernel) -> None:
    ref = spawn(kernel)
    sys.replace_state(ref, lambda state: {"value": 1, "more": 2})
    assert sys.get_state(ref) == {"value": 1, "more": 2}


def test_a_change_that_fails_changes_nothing(kernel: Kernel) -> None:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        state["value"] = 9
        raise SystemExit(1)

    ref = spawn(kernel)
    with pytest.raises(SystemExit):
        sys.replace_state(ref, change)
    assert sys.get_state(ref)["value"] == 0


def test_a_name_will_do(kernel: Kernel) -> None:
    registry = Registry()
    spawn(kernel, Counter, 7, name=registry.via("x"))
    assert sys.get_state(registry.via("x"))["value"] == 7


def test_the_dead_have_no_state(kernel: Kernel) -> None:
    ref = spawn(kernel)
    stop(ref)
    with pytest.raises(ActorDied):
        sys.get_state(ref)
    with pytest.raises(ActorDied):
        sys.get_state(Registry().via("x"))


def test_a_stuck_actor_does_not_answer_in_time(kernel: Kernel) -> None:
    ref = spawn(kernel)
    go = blocked(ref)
    with pytest.raises(CallTimeout):
        sys.get_state(ref, timeout=0.01)
    go.set()
    assert sys.get_state(ref)["value"] == 0


def test_a_death_is_told_to_who_asks(kernel: Kernel) -> None:
    ref = spawn(kernel)
    go = blocked(ref)
    question = Background(sys.get_state, ref)
    wait_until(lambda: len(ref.mailbox.q) == 1)
    ref.fence()
    with pytest.raises(ActorDied) as caught:
        question.value()
    go.set()
    assert (caught.value.exit, caught.value.maybe_handled) == (Killed(), False)


def test_an_actor_cannot_ask_itself(kernel: Kernel) -> None:
    class Narcissus(Counter):
        def look(self) -> Any:
            return sys.get_state(self.ref)

    with pytest.raises(ActorDied) as caught:
        spawn(kernel, Narcissus).call(Narcissus.look)
    assert isinstance(caught.value.__cause__, CallCycle)


def test_a_fenced_actor_asks_nobody(kernel: Kernel) -> None:
    class Fencer(Counter):
        def look(self, ref: Ref[Any], seen: list[Any]) -> None:
            self.ref.fence()
            try:
                sys.get_state(ref)
            except Fenced as error:
                seen.append(error)

    seen: list[Any] = []
    fencer = spawn(kernel, Fencer)
    with pytest.raises(ActorDied):
        fencer.call(Fencer.look, spawn(kernel), seen)
    wait_until(lambda: len(seen) == 1)


def test_a_full_mailbox_refuses_no_system_message(kernel: Kernel) -> None:
    ref = spawn(kernel, Bounded)
    go = blocked(ref)
    ref.cast(Counter.add, 1)
    with pytest.raises(MailboxFull):
        ref.cast(Counter.add, 1)
    question = Background(sys.get_state, ref)
    go.set()
    assert question.value()["value"] == 1


def test_a_loop_asks_with_request(kernel: Kernel) -> None:
    ref = spawn(kernel, Counter, 7)

    async def ask() -> Any:
        await sys.request(ref, "replace_state", set_value(8))
        return await sys.request(ref, "get_state")

    assert asyncio.run(ask())["value"] == 8
    with pytest.raises(SpecError, match="get_state"):
        sys.request(ref, "get_sate")


# suspend and resume


@kinds
def test_a_suspended_actor_answers_system_messages_only(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    sys.suspend(ref)
    ref.cast(Counter.add, 1)
    with pytest.raises(CallTimeout):
        in_thread(ref.within(0.02).call, Counter.add, 1)
    assert (sys.get_state(ref)["value"], sys.get_status(ref)["sys_state"]) == (0, "suspended")


@kinds
def test_a_resumed_actor_handles_what_has_waited_in_order(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    sys.suspend(ref)
    for n in range(5):
        ref.cast(Counter.note, n)
    sys.resume(ref)
    assert ref.call(Counter.notes) == [0, 1, 2, 3, 4]
    assert sys.get_status(ref)["sys_state"] == "running"


@kinds
def test_to_suspend_and_resume_twice_is_to_do_it_once(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    sys.suspend(ref)
    sys.suspend(ref)
    sys.resume(ref)
    sys.resume(ref)
    assert ref.call(Counter.add, 1) == 1


@kinds
def test_the_state_of_a_suspended_actor_can_be_replaced(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    sys.suspend(ref)
    ref.cast(Counter.add, 1)
    sys.replace_state(ref, set_value(10))
    sys.resume(ref)
    assert ref.call(Counter.add, 0) == 11


@kinds
def test_a_suspended_actor_can_be_stopped(kernel: Kernel, cls: type[Counter]) -> None:
    log: list[Any] = []
    ref = spawn(kernel, cls, 0, log)
    sys.suspend(ref)
    waiting = ref.send_request(Counter.add, 1)
    stop(ref, Shutdown())
    assert (log, ref.down().get(0)) == ([Shutdown()], Shutdown())
    with pytest.raises(ActorDied):
        waiting.get(1)


def test_a_suspended_actor_sleeps(kernel: Kernel) -> None:
    ref = spawn(kernel, OnLoop)
    sys.suspend(ref)
    ref.cast(Counter.add, 1)
    wait_until(lambda: not ref.mailbox.own.locked() and not ref.mailbox.sched)
    assert not ref.mailbox.released()


def test_what_waits_in_the_queue_when_it_is_suspended_overtakes(kernel: Kernel) -> None:
    ref = spawn(kernel)
    go = blocked(ref)
    suspending = Background(sys.suspend, ref)
    wait_until(lambda: len(ref.mailbox.q) == 1)
    ref.cast(Counter.add, 1)
    question = Background(sys.get_state, ref)
    wait_until(lambda: len(ref.mailbox.q) == 3)
    go.set()
    suspending.value()
    assert question.value()["value"] == 0


def test_a_continuation_of_a_suspended_actor_waits_and_comes_first(kernel: Kernel) -> None:
    ref = spawn(kernel)
    sys.suspend(ref)
    ref.cast(Counter.note, "second")
    ref.mailbox.post_first(("note", ("first",), {}, None))
    before = list(sys.get_state(ref)["log"])
    sys.resume(ref)
    assert (before, ref.call(Counter.notes)) == ([], ["first", "second"])


def test_a_question_to_a_suspended_actor_that_ends_is_not_lost(kernel: Kernel) -> None:
    ref = spawn(kernel)
    go = blocked(ref)
    holding.hold(ref.mailbox)
    question = Background(sys.get_state, ref)
    wait_until(lambda: len(ref.mailbox.sysq or ()) == 2)
    ref.fence()
    with pytest.raises(ActorDied):
        question.value()
    go.set()


def test_a_suspended_child_is_stopped_by_its_supervisor(kernel: Kernel) -> None:
    log: Any = []
    sup = supervise(kernel, [ChildSpec("a", Counter, (0, log))])
    sys.suspend(child(sup, "a"))
    stop(sup)
    assert log == [Shutdown()]


def test_timers_of_a_suspended_actor_wait(still: Kernel, clock: ManualClock) -> None:
    class Late(Counter):
        def begin(self) -> None:
            self.send_after(1.0, Late.add, 1)

    ref = spawn(still, Late)
    ref.call(Late.begin)
    sys.suspend(ref)
    clock.advance(1.0)
    before = sys.get_state(ref)["value"]
    sys.resume(ref)
    assert (before, ref.call(Counter.add, 0)) == (0, 1)


# status


def test_a_status_is_as_its_actor_wants_it(kernel: Kernel) -> None:
    ref = spawn(kernel, Discreet, name=Registry().via("x"))
    status = sys.get_status(ref)
    assert status["state"] == {"value": "hidden"}
    assert {key: status[key] for key in ("name", "class", "sys_state", "ancestors", "queue", "log")} == {
        "name": "x",
        "class": "Discreet",
        "sys_state": "running",
        "ancestors": [],
        "queue": 0,
        "log": [],
    }
    assert status["incarnation"] == ref.incarnation


# statistics


@kinds
def test_statistics_count_messages_and_answers(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    sys.statistics(ref, True)
    ref.cast(Counter.add, 1)
    ref.call(Counter.add, 1)
    found = sys.statistics(ref)
    assert found is not None
    assert (found["messages_in"], found["messages_out"], found["queue"]) == (2, 1, 0)
    assert found["current_time"] >= found["start_time"]


def test_statistics_that_are_off_are_none(kernel: Kernel) -> None:
    ref = spawn(kernel)
    before = sys.statistics(ref)
    sys.statistics(ref, True)
    ref.call(Counter.add, 1)
    sys.statistics(ref, False)
    assert (before, sys.statistics(ref)) == (None, None)
    sys.statistics(ref, True)
    assert (sys.statistics(ref) or {})["messages_in"] == 0


@pytest.mark.parametrize("cls", [Counter, OnLoop])
def test_statistics_tell_how_long_it_was_busy(still: Kernel, clock: ManualClock, cls: type[Counter]) -> None:
    class Advancing(cls):  # type: ignore[misc, valid-type]
        def work(self) -> None:
            clock.advance(2.0)

    class Awaiting(OnLoop):
        async def work(self) -> None:
            clock.advance(2.0)

    ref: Any = spawn(still, Awaiting if cls is OnLoop else Advancing)
    sys.statistics(ref, True)
    ref.call(ref.actor_class.work)
    assert (sys.statistics(ref) or {})["busy"] == 2.0


def test_who_is_not_watched_pays_nothing(kernel: Kernel) -> None:
    ref = spawn(kernel)
    sys.statistics(ref, True)
    watched = type(ref.mailbox)
    sys.statistics(ref, False)
    assert (watched is Cell, type(ref.mailbox) is Cell, ref.mailbox.debug) == (False, True, None)


# debug functions


@kinds
def test_a_debug_function_sees_messages_and_answers(kernel: Kernel, cls: type[Counter]) -> None:
    seen: list[Event] = []
    ref = spawn(kernel, cls)
    sys.install(ref, seen.append)
    ref.call(Counter.add, 2)
    ref.cast(Counter.note, "x")
    sys.get_state(ref)
    assert [(event.kind, event.message) for event in seen] == [
        ("in", ("add", (2,), {})),
        ("out", 2),
        ("in", ("note", ("x",), {})),
    ]


def test_a_debug_function_sees_who_asked(kernel: Kernel) -> None:
    seen: list[Event] = []
    ref, asker = spawn(kernel), spawn(kernel)
    sys.install(ref, seen.append)
    asker.call(Counter.ask_back, ref)
    sys.get_state(ref)
    assert [event.peer for event in seen] == [asker.name, asker.name]


def test_a_debug_function_sees_deferred_answers_and_raw_messages(kernel: Kernel) -> None:
    seen: list[Event] = []
    ref = spawn(kernel)
    sys.install(ref, seen.append)
    reply = ref.send_request(Counter.late)
    ref.call(Counter.settle, 5)
    reply.get(5)
    ref.ask("raw", timeout=5)
    sys.get_state(ref)
    assert [event.message for event in seen if event.kind == "out"] == [5, True, ("info", "raw")]
    assert ("on_receive", ("raw",), {}) in [event.message for event in seen]


def test_a_debug_function_sees_a_crash(kernel: Kernel) -> None:
    seen: list[Event] = []
    ref = spawn(kernel)
    sys.install(ref, seen.append)
    with pytest.raises(ActorDied):
        ref.call(Counter.crash, BOOM)
    wait_until(lambda: isinstance(seen[-1].message, ActorDied))


def test_a_debug_function_can_be_removed(kernel: Kernel) -> None:
    seen: list[Event] = []
    ref = spawn(kernel)
    sys.install(ref, seen.append)
    sys.remove(ref, seen.append)
    ref.call(Counter.add, 1)
    assert (seen, type(ref.mailbox)) == ([], Cell)


def test_a_debug_function_that_raises_is_taken_off(kernel: Kernel) -> None:
    failures: list[Any] = []
    kernel.telemetry.attach("test", ("sys", "debug", "failure"), lambda _event, _, about: failures.append(about))
    ref = spawn(kernel)
    sys.install(ref, lambda event: 1 // 0)
    assert [ref.call(Counter.add, 1), ref.call(Counter.add, 1)] == [1, 2]
    assert [about["name"] for about in failures] == [ref.name]


# the log


def test_the_log_keeps_the_last_events(kernel: Kernel) -> None:
    ref = spawn(kernel)
    sys.log(ref, 3)
    for n in range(5):
        ref.cast(Counter.add, n)
    assert [event.message[1] for event in sys.log(ref) or ()] == [(2,), (3,), (4,)]


def test_the_log_keeps_ten_unless_told_otherwise(kernel: Kernel) -> None:
    ref = spawn(kernel)
    sys.log(ref, True)
    for n in range(15):
        ref.cast(Counter.add, n)
    assert len(sys.log(ref) or ()) == sys.LOG_LENGTH
    sys.log(ref, False)
    assert (sys.log(ref), type(ref.mailbox)) == ([], Cell)


@pytest.mark.parametrize("flag", [-1, "on", 1.5])
def test_a_flag_that_makes_no_sense_is_refused(kernel: Kernel, flag: Any) -> None:
    ref = spawn(kernel)
    with pytest.raises(SpecError):
        sys.log(ref, flag)
    with pytest.raises(SpecError):
        sys.statistics(ref, flag)
    assert ref.call(Counter.add, 1) == 1


@pytest.fixture
def written() -> Iterator[list[dict[str, Any]]]:
    """What structlog was given."""
    found: list[dict[str, Any]] = []

    def keep(logger: object, level: str, fields: Any) -> Any:
        found.append({**fields, "level": level})
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    yield found
    structlog.reset_defaults()


@pytest.mark.parametrize(("cls", "shown"), [(Counter, ["Event(kind='in', mess"]), (Discreet, ["'hidden'"])])
def test_a_crash_report_has_the_log_as_the_actor_wants_it(
    system: System, written: list[dict[str, Any]], cls: type[Counter], shown: list[str]
) -> None:
    ref = system.start_child(ChildSpec("a", cls))
    sys.log(ref, 1)
    ref.cast(Counter.crash, BOOM)
    ref.down().get(5)
    system.shutdown()
    assert [each[:21] for each in written[0]["log"]] == shown


def test_a_trace_is_written_as_reports(kernel: Kernel, written: list[dict[str, Any]]) -> None:
    ref = spawn(kernel)
    sys.trace(ref, True)
    sys.trace(ref, True)
    ref.call(Counter.add, 1)
    sys.trace(ref, False)
    ref.call(Counter.add, 1)
    assert [(each["event"], each["kind"], each["message"], each["level"]) for each in written] == [
        ("actor.trace", "in", "add(1)", "info"),
        ("actor.trace", "out", "1", "info"),
    ]


# forced interleavings


def test_a_question_meets_a_suspension_at_any_moment(kernel: Kernel) -> None:
    """Both sides store and then look again: whoever is second moves the question to the front."""
    for _ in range(200):
        ref = spawn(kernel)
        suspending, question = Background(sys.suspend, ref), Background(sys.get_state, ref)
        suspending.value()
        assert question.value()["value"] == 0
        ref.exit(Normal())


def test_the_mark_of_a_suspension_is_never_missing(kernel: Kernel) -> None:
    """Who looks while the actor is being run must see that it is suspended."""
    marked: list[bool] = []

    class Lane(deque[Any]):
        def popleft(self) -> Any:
            taken = super().popleft()
            marked.append(holding.HOLD in self)
            return taken

    ref = spawn(kernel)
    sys.suspend(ref)
    ref.mailbox.sysq = Lane(ref.mailbox.sysq or ())
    sys.get_state(ref)
    ref.cast(Counter.add, 1)
    sys.get_state(ref)
    assert marked == [True, True]


def test_a_supervisor_can_be_looked_into(kernel: Kernel) -> None:
    from supervisors.testing import Log

    sup = supervise(kernel, [spec("a", Log())])
    assert "_table" in sys.get_state(sup)
    sys.suspend(sup)
    sys.resume(sup)
    assert child(sup, "a").is_alive()
