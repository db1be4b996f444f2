"""Section W, continued: iterables and loops at the ends of a pipeline, and a child for each event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.backoff import Backoff
from supervisors.cell import IGNORE
from supervisors.clock import ManualClock
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import ActorDied, NoSystem, SpecError, StartFailed
from supervisors.exits import Exit, NoProc, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec, Restart
from supervisors.stages.calls import demand, sync_subscribe
from supervisors.stages.consumer_supervisor import ConsumerSupervisor
from supervisors.stages.dispatchers import BroadcastDispatcher
from supervisors.stages.errors import NotAProducer
from supervisors.stages.from_iterable import FromIterable, from_iterable
from supervisors.stages.stream import stream
from supervisors.stages.subscription import To
from supervisors.testing import Log, wait_until
from tests.conformance.stages import Counting, Logging, Source, Times, feed, of, quiet, sink, source, times
from tests.conformance.words import BOOM, CRASH, EXITS, down, word


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def entered(kernel: Kernel) -> Iterator[None]:
    """`from_iterable` starts in the system that is entered."""
    with kernel.entered():
        yield


def until_done(address: Any, **options: Any) -> To:
    return To(address, cancel="transient", **options)


# --- stream and from_iterable -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_w21_a_loop_gets_all_events_in_order(kernel: Kernel, most: int) -> None:
    assert list(stream([until_done(from_iterable(range(50)), max_demand=most)])) == list(range(50))


def test_w21_a_loop_is_over_when_the_producer_ends_in_peace(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    feed(p, 1, 2)
    events = iter(stream([until_done(p)]))
    first = next(events), next(events)
    p.exit(Shutdown("done"))

    assert (first, list(events)) == ((1, 2), [])


def test_w21_by_default_a_loop_ends_as_its_producer_does(kernel: Kernel, log: Log) -> None:
    p = from_iterable([1, 2])
    with pytest.raises(ActorDied) as caught:
        list(stream([p]))

    assert (caught.value.name, caught.value.exit) == (p.name, Normal())


def test_w21_what_came_before_the_end_comes_first(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)
    feed(p, 1, 2, 3, 4)
    events = iter(stream([To(p, max_demand=4, min_demand=2)]))
    first = next(events)
    p.exit(CRASH)
    p.down().get(5)
    rest = [next(events) for _ in range(3)]
    with pytest.raises(ActorDied) as caught:
        next(events)

    assert (first, rest, caught.value.__cause__) == (1, [2, 3, 4], BOOM)


@pytest.mark.parametrize("reason", ["normal", "crash"])
def test_w21_a_temporary_producer_is_not_missed(kernel: Kernel, log: Log, reason: str) -> None:
    p = source(kernel, log)
    p.exit(EXITS[reason])
    q = from_iterable("ab")

    assert sorted(stream([To(p, cancel="temporary"), until_done(q)])) == ["a", "b"]


def test_w21_a_loop_takes_no_more_than_it_comes_to(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    events = iter(stream([To(p, max_demand=4, min_demand=2)]))
    asked = []
    for _ in range(5):
        next(events)
        quiet(p)
        asked.append(of(log, "p", "asked"))
    events.close()  # type: ignore[attr-defined]

    assert asked == [[4], [4], [4, 2], [4, 2], [4, 2, 2]]


def test_w21_a_loop_that_is_left_lets_go_of_the_producer(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    for event in stream([p]):
        if event == 3:
            break
    log.wait_for(("p", "down", "normal"))

    assert p.is_alive()


@pytest.mark.parametrize(("on_cancel", "ends"), [("stop", True), ("continue", False)])
def test_w21_an_iterable_may_end_with_its_last_consumer(kernel: Kernel, log: Log, on_cancel: Any, ends: bool) -> None:
    p = from_iterable(range(100), on_cancel=on_cancel, dispatcher=BroadcastDispatcher())
    a, b = (sink(kernel, log, name, To(p), mode="manual") for name in "ab")
    a.exit(Normal())
    a.down().get(5)
    p.call(FromIterable.estimate_buffered_count)
    alive_with_one = p.is_alive()
    b.exit(Normal())
    b.down().get(5)
    if ends:
        assert down(p) == "normal"
    p.send_request(FromIterable.estimate_buffered_count).wait(5, kernel.clock)

    assert (alive_with_one, p.is_alive()) == (True, not ends)


def test_w21_an_iterable_that_raises_ends_the_loop_with_it(kernel: Kernel) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise BOOM

    with pytest.raises(ActorDied) as caught:
        list(stream([until_done(from_iterable(items()), max_demand=1)]))

    assert caught.value.__cause__ is BOOM


def test_w21_demand_that_was_kept_is_forwarded_by_the_loop(kernel: Kernel) -> None:
    p = from_iterable(range(3), demand="accumulate")
    assert list(stream([until_done(p)])) == [0, 1, 2]


def test_w21_a_loop_may_leave_the_demand_alone(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting, demand="accumulate")
    events = iter(stream([p], demand="accumulate"))
    feed(p, "kept")
    first = next(events)
    demand(p, "forward")
    second = next(events)
    events.close()  # type: ignore[attr-defined]

    assert (first, second) == ("kept", 0)


def test_w21_a_loop_takes_from_many(kernel: Kernel) -> None:
    ps = [from_iterable(range(first, first + 10)) for first in (0, 100, 200)]
    events = list(stream([until_done(p, max_demand=3) for p in ps]))

    assert sorted(events) == [first + n for first in (0, 100, 200) for n in range(10)]
    assert [each for each in events if each < 100] == list(range(10))


def test_w21_nobody_behind_a_name_is_noproc(kernel: Kernel, log: Log) -> None:
    nobody = Registry().via("p")
    with pytest.raises(ActorDied) as caught:
        list(stream([nobody]))
    with pytest.raises(ActorDied) as caught_too:
        list(stream([nobody, source(kernel, log)]))

    assert (caught.value.exit, caught_too.value.exit) == (NoProc(), NoProc())


def test_w21_what_cannot_be_iterated_is_refused(kernel: Kernel, log: Log) -> None:
    with pytest.raises(SpecError):
        stream([])
    with pytest.raises(NotAProducer):
        stream([sink(kernel, log)])


@pytest.mark.parametrize("options", [{"demand": "never"}, {"on_cancel": "explode"}])
def test_w21_an_option_without_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        from_iterable([], **options)


def test_w21_a_loop_of_asyncio_gets_them_too(kernel: Kernel, log: Log) -> None:
    p = times(kernel, log, To(from_iterable(range(20)), max_demand=4), times=2)

    async def read() -> list[int]:
        return [event async for event in stream([until_done(p, max_demand=3)])]

    assert asyncio.run(read()) == [n for n in range(20) for _ in range(2)]


def test_w21_a_loop_of_asyncio_that_is_cancelled_lets_go(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log)

    async def read() -> None:
        async for _ in stream([p]):
            raise AssertionError("nothing was sent")

    async def cancelled() -> None:
        task = asyncio.create_task(read())
        await asyncio.to_thread(log.wait_for, ("p", "asked", 1000))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(cancelled())
    log.wait_for(("p", "down", "normal"))


def test_an_iterable_can_be_supervised_and_begins_anew(kernel: Kernel) -> None:
    name = Registry().via("numbers")
    sup = kernel.spawn(DynamicSupervisor)
    sup.call(DynamicSupervisor.start_child, ChildSpec("numbers", FromIterable, ([1, 2],), name=name))
    first = list(stream([until_done(name)]))
    sup.call(DynamicSupervisor.count_children)

    assert (first, list(stream([until_done(name)]))) == ([1, 2], [1, 2])
    sup.exit(Shutdown())
    sup.down().get(5)


def test_without_a_system_there_is_nowhere_to_start() -> None:
    with pytest.raises(NoSystem):
        asyncio.run(_in_a_new_context())


async def _in_a_new_context() -> None:
    from contextvars import Context

    Context().run(from_iterable, [])


class Chunks(Source):
    """Reads from somewhere in a task beside its mailbox, as a model's answer is streamed."""

    dispatcher = "loop"

    def init(self, log: Log, label: str = "p", **options: Any) -> None:
        super().init(log, label, **options)
        self.start_task(self.read())

    async def read(self) -> None:
        for number in range(5):
            await asyncio.sleep(0)
            self.emit([number])
        self.info("end of stream")

    def on_info(self, message: Any) -> None:
        self.stop()


def test_w25_what_a_task_of_a_stage_reads_comes_from_the_stage(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Chunks)
    assert list(stream([until_done(p, max_demand=2)])) == [0, 1, 2, 3, 4]


def test_w25_it_waits_in_the_one_buffer_of_the_stage(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Chunks, buffer_size=2)
    wait_until(lambda: p.call(Chunks.count_discarded) == 3)

    assert list(stream([until_done(p)])) == [3, 4]


# --- a child for each event -------------------------------------------------------------------------------------------


class Work(Actor):
    """One child: logs its start and its end; the event tells it what to do."""

    def init(self, log: Log, event: Any) -> Any:
        self.log, self.event = log, event
        log.add("w", "start", event)
        if event == "bad":
            raise BOOM
        return IGNORE if event == "ignore" else None

    def terminate(self, exit: Exit) -> None:
        self.log.add("w", "end", self.event, word(exit))


class Crew(ConsumerSupervisor):
    """One that can be waited for."""

    ping = Logging.ping


def crew(kernel: Kernel, log: Log, *to: To, restart: Restart = Restart.TEMPORARY, **options: Any) -> Ref[Crew]:
    fields = {key: options.pop(key) for key in ("backoff", "shutdown") if key in options}
    spec = ChildSpec("work", Work, (log,), restart=restart, **fields)
    return kernel.spawn(Crew, spec, subscribe_to=to, **options)


def workers(ref: Ref[Crew]) -> list[Any]:
    return [line.ref for line in ref.call(Crew.which_children)]


def finish(ref: Ref[Crew], child: Ref[Any], how: str = "normal") -> None:
    child.exit(EXITS[how])
    child.down().get(5)
    quiet(ref)


def test_w24_every_event_gets_a_child_and_not_too_many_at_once(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=4, min_demand=2))
    quiet(p, c)

    assert log == [("p", "asked", 4), *[("w", "start", n) for n in range(4)]]
    assert c.call(Crew.count_children) == (4, 4, 0, 4)


def test_w24_it_asks_again_when_enough_have_finished(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=4, min_demand=2))
    quiet(p, c)
    asked = []
    for child in workers(c):
        finish(c, child)
        quiet(p, c)
        asked.append(of(log, "p", "asked"))

    assert asked == [[4], [4, 2], [4, 2], [4, 2, 2]]
    assert of(log, "w", "start") == list(range(8))


def test_w24_a_child_that_comes_back_keeps_its_place(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=1), restart=Restart.TRANSIENT)
    quiet(p, c)
    (child,) = workers(c)
    finish(c, child, "crash")
    quiet(p, c)
    (again,) = workers(c)
    finish(c, again)
    quiet(p, c)

    assert [event[2] for event in log.events if event[:2] == ("w", "start")] == [0, 0, 1]


def test_w24_a_child_that_waits_for_its_restart_keeps_its_place(still: Kernel, clock: ManualClock, log: Log) -> None:
    p = source(still, log, Counting)
    c = crew(still, log, To(p, max_demand=1), restart=Restart.TRANSIENT, backoff=Backoff(base=1.0, jitter=0.0))
    quiet(p, c)
    for _ in range(2):
        finish(c, workers(c)[0], "crash")
    quiet(p, c)
    waiting = workers(c), of(log, "w", "start")
    clock.advance(1)
    quiet(p, c)

    assert (waiting, of(log, "w", "start")) == ((["waiting"], [0, 0]), [0, 0, 0])


def test_w24_a_child_that_is_stopped_makes_room(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=1))
    quiet(p, c)
    c.call(Crew.terminate_child, workers(c)[0])
    quiet(p, c)

    assert log.events[1:] == [("w", "start", 0), ("w", "end", 0, "shutdown"), ("p", "asked", 1), ("w", "start", 1)]


@pytest.mark.parametrize("event", ["bad", "ignore"])
def test_w24_one_that_does_not_start_has_finished(kernel: Kernel, log: Log, event: str) -> None:
    p = source(kernel, log)
    c = crew(kernel, log, To(p, max_demand=2, min_demand=1))
    feed(p, event)
    quiet(p, c)

    assert log == [("p", "asked", 2), ("w", "start", event), ("p", "asked", 1)]
    assert c.call(Crew.count_children) == (0, 0, 0, 0)


def test_w24_children_outlive_a_temporary_producer(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=2, cancel="temporary"))
    quiet(p, c)
    p.exit(CRASH)
    p.down().get(5)
    quiet(c)
    first, second = workers(c)
    finish(c, first)

    assert (second.is_alive(), workers(c)) == (True, [second])


def test_w24_children_end_with_a_permanent_one(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=2))
    quiet(p, c)
    p.exit(Shutdown())

    assert down(c) == "shutdown"
    assert sorted(log.events[-2:]) == [("w", "end", 0, "shutdown"), ("w", "end", 1, "shutdown")]


def test_w24_it_has_a_limit_of_restarts(kernel: Kernel, log: Log) -> None:
    p = source(kernel, log, Counting)
    c = crew(kernel, log, To(p, max_demand=1), restart=Restart.TRANSIENT, max_restarts=1)
    quiet(p, c)
    finish(c, workers(c)[0], "crash")
    workers(c)[0].exit(CRASH)

    assert down(c) == "shutdown"


def test_w24_it_takes_from_many(kernel: Kernel, log: Log) -> None:
    ps = [source(kernel, log, Counting, label=label) for label in "pq"]
    c = crew(kernel, log)
    for p in ps:
        sync_subscribe(c, p, max_demand=2)
    quiet(*ps, c)

    assert sorted(of(log, "w", "start")) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("child", "field"), [(ChildSpec("work", Work, restart=Restart.PERMANENT), "restart"), (42, "start")]
)
def test_w24_a_child_without_sense_is_refused(kernel: Kernel, child: Any, field: str) -> None:
    with pytest.raises(StartFailed) as caught:
        kernel.spawn(Crew, child)

    assert isinstance(caught.value.cause, SpecError)
    assert caught.value.cause.field == field


def test_a_pipeline_ends_by_itself_when_its_iterable_does(kernel: Kernel, log: Log) -> None:
    first = kernel.spawn(Times, log, "first", [To(from_iterable(range(10)), max_demand=3)])
    second = kernel.spawn(Times, log, "second", [To(first, max_demand=2)], 2)
    events = list(stream([until_done(second, max_demand=1)]))

    assert events == [n for n in range(10) for _ in range(2)]
    assert (down(first), down(second)) == ("normal", "normal")
