"""A request's way through its phases: what ends it, who hears why, and that closing waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

import pytest

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.transports.base import HTTPRequest, Take, TransportSettings, transport_error
from dspy_actors.lm.transports.observer import NOBODY
from dspy_actors.lm.transports.slotted import Head, SlottedTransport
from dspy_actors.lm.transports.trip import Trip, Trips

URL = "http://model.invalid/v1"


class Hands(asyncio.AbstractEventLoop):
    """The loop's clock, turned by hand; it holds one timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed: list[float] = []

    def time(self) -> float:
        return self.now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[[], object], *, context: Context
    ) -> asyncio.TimerHandle:
        self.armed.append(when)
        self.due = callback
        return asyncio.TimerHandle(when, callback, (), asyncio.get_running_loop(), context)

    def go_off(self, now: float) -> None:
        self.now = now
        self.due()


def run(once: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        await asyncio.wait_for(once(), 60.0)

    asyncio.run(in_time())


def begun(deadline: float | None = None, **limits: float) -> tuple[Trip, Hands]:
    trips = Trips(TransportSettings(**limits))  # type: ignore[arg-type]
    trips.loop = hands = Hands()
    return Trip(trips, URL, deadline, NOBODY), hands


async def end_of(trip: Trip) -> BaseException:
    """What the task that waits within the trip raises."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as cancelled:
        return trip.reason(cancelled)
    finally:
        trip.stop()
    raise AssertionError("nobody sets that event")


def test_a_request_that_is_written_to_its_end_after_its_answer_sets_no_timer() -> None:
    """As where a server answers before it has read all."""

    async def once() -> None:
        trip, hands = begun(connect=10.0, first_byte=1.0)
        trip.enter("connect")
        trip.stop()
        hands.now = 2.0
        trip.written()
        assert (trip.sent, hands.armed) == (True, [10.0])

    run(once)


def test_a_timer_that_goes_off_before_a_moved_limit_is_set_again() -> None:
    async def once() -> None:
        trip, hands = begun(connect=5.0, first_byte=600.0)
        trip.enter("connect")
        hands.now = 1.0
        trip.enter("first_byte")
        hands.go_off(5.0)
        assert hands.armed == [5.0, 601.0]
        hands.go_off(601.0)
        error = await end_of(trip)
        assert isinstance(error, LMTimeoutError)
        assert error.phase == "first_byte"

    run(once)


def test_a_nearer_limit_takes_the_place_of_a_farther_one() -> None:
    async def once() -> None:
        trip, hands = begun(connect=5.0, write=1.0)
        trip.enter("connect")
        trip.enter("write")
        assert hands.armed == [5.0, 1.0]
        trip.stop()

    run(once)


def test_the_deadline_is_the_end_of_every_phase() -> None:
    async def once() -> None:
        trip, hands = begun(deadline=2.0, connect=5.0)
        trip.enter("connect")
        hands.go_off(2.0)
        error = await end_of(trip)
        assert isinstance(error, LMTimeoutError)
        assert error.phase == "total"

    run(once)


def test_the_first_reason_counts_and_the_task_goes_on_uncancelled() -> None:
    async def once() -> None:
        trip, _ = begun()
        first, second = (transport_error(what, URL, "closed") for what in ("first", "second"))
        trip.interrupt(first)
        trip.interrupt(second)
        assert await end_of(trip) is first
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(once)


def test_a_trip_that_comes_to_its_end_all_the_same_leaves_its_task_uncancelled() -> None:
    async def once() -> None:
        trip, _ = begun()
        trip.interrupt(transport_error("too late", URL, "closed"))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        trip.stop()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(once)


def test_a_deadline_that_has_passed_begins_no_trip() -> None:
    async def once() -> None:
        trips = Trips(TransportSettings())
        with pytest.raises(LMTimeoutError):
            Trip(trips, URL, trips.loop.time() - 1.0, None)
        assert not trips.under_way

    run(once)


def test_the_end_of_all_waits_until_each_has_left_and_may_be_waited_for_twice() -> None:
    async def lingers(trips: Trips, turns: int) -> BaseException:
        trip = Trip(trips, URL, None, None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            for _ in range(turns):
                await asyncio.sleep(0)
            return trip.reason(cancelled)
        finally:
            trip.stop()
        raise AssertionError("nobody sets that event")

    async def once() -> None:
        trips = Trips(TransportSettings())
        tasks = [asyncio.create_task(lingers(trips, turns)) for turns in (0, 3, 30)]
        await asyncio.sleep(0)
        assert len(trips.under_way) == 3
        await asyncio.gather(trips.end(), trips.end())
        assert not trips.under_way
        errors = [await task for task in tasks]
        assert [isinstance(error, LMTransportError) and error.provider_code for error in errors] == ["closed"] * 3

    run(once)


class Body:
    """A source of which it is known whether it was given back."""

    def __init__(self) -> None:
        self.released: list[bool] = []

    async def next(self) -> bytes:
        return b"more"

    async def pour(self, take: Take) -> bool:
        return take(b"more")

    async def release(self, clean: bool) -> None:
        self.released.append(clean)


class Stubborn(SlottedTransport):
    """Its answer is there in the very turn in which it is closed."""

    def __init__(self) -> None:
        super().__init__(URL, None)
        self.body = Body()

    async def _begun(self, request: HTTPRequest, trip: Trip) -> Head:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Head(self.body, 200, {})
        raise AssertionError("nobody sets that event")

    async def aclose(self) -> None:
        await self._end_all()


def test_a_request_that_becomes_an_answer_while_its_transport_closes_is_closed_as_one() -> None:
    async def once() -> None:
        transport = Stubborn()
        opening = asyncio.create_task(transport.open(HTTPRequest("POST", URL, {})))
        await asyncio.sleep(0)
        await transport.aclose()
        answer = await opening
        assert transport.body.released == [False]
        with pytest.raises(LMTransportError):
            await answer.read()

    run(once)
