"""Single flight: one trip for many, each waiting for itself."""

from __future__ import annotations

from concurrent.futures import CancelledError
from threading import Barrier, Thread

import pytest

from dspy_actors.cache.flight import SingleFlight
from dspy_actors.errors import LMServerError
from supervisors.reply import Reply

Flights = SingleFlight[str, str]


def test_the_first_leads_and_the_others_join() -> None:
    flights = Flights()
    led = [flights.join("a")[0] is not None for _ in range(3)]
    assert (led, flights.joined) == ([True, False, False], 2)


def test_other_questions_fly_alone() -> None:
    flights = Flights()
    assert all(flights.join(key)[0] is not None for key in "abc")


def test_everybody_gets_the_answer() -> None:
    flights = Flights()
    flight, first = flights.join("a")
    _, second = flights.join("a")
    assert flight is not None
    assert flight.succeed("A") == 2
    assert (first.get(0), second.get(0), len(flights)) == ("A", "A", 0)


def test_everybody_gets_an_error_of_his_own() -> None:
    flights = Flights()
    flight, first = flights.join("a")
    _, second = flights.join("a")
    assert flight is not None
    flight.fail(LMServerError("down", status=503))
    errors = [first.exception(), second.exception()]
    assert errors[0] is not errors[1]
    assert [(type(error), getattr(error, "status", None)) for error in errors] == [(LMServerError, 503)] * 2


def test_an_error_that_is_not_ours_is_shared() -> None:
    flights = Flights()
    flight, reply = flights.join("a")
    assert flight is not None
    flight.fail(KeyError("x"))
    assert isinstance(reply.exception(), KeyError)


def test_after_the_landing_the_next_leads_again() -> None:
    flights = Flights()
    flight, _ = flights.join("a")
    assert flight is not None
    flight.succeed("A")
    assert flights.join("a")[0] is not None


def test_who_leaves_leaves_alone() -> None:
    flights, left = Flights(), list[str]()
    flight, first = flights.join("a")
    _, second = flights.join("a")
    assert flight is not None
    flight.on_abandoned(lambda: left.append("all"))
    first.cancel()
    flight.succeed("A")
    assert (second.get(0), left) == ("A", [])


def test_the_trip_is_cancelled_when_the_last_has_left() -> None:
    flights, left = Flights(), list[str]()
    flight, first = flights.join("a")
    _, second = flights.join("a")
    assert flight is not None
    flight.on_abandoned(lambda: left.append("all"))
    second.cancel()
    assert left == []
    first.cancel()
    assert (left, len(flights)) == (["all"], 0)


def test_leaving_before_the_trip_can_be_cancelled_cancels_it_then() -> None:
    flights, left = Flights(), list[str]()
    flight, reply = flights.join("a")
    reply.cancel()
    assert flight is not None
    flight.on_abandoned(lambda: left.append("all"))
    assert left == ["all"]


def test_a_trip_that_landed_is_not_cancelled() -> None:
    flights, left = Flights(), list[str]()
    flight, reply = flights.join("a")
    assert flight is not None
    flight.on_abandoned(lambda: left.append("all"))
    flight.succeed("A")
    assert not reply.cancel()
    assert left == []


def test_an_abandoned_trip_does_not_end_the_next_one() -> None:
    flights = Flights()
    old, first = flights.join("a")
    first.cancel()
    new, second = flights.join("a")
    assert old is not None
    assert old.fail(LMServerError("cancelled")) == 0
    assert new is not None
    new.succeed("A")
    assert second.get(0) == "A"


def test_ending_twice_counts_once() -> None:
    flights = Flights()
    flight, reply = flights.join("a")
    assert flight is not None
    assert [flight.succeed("A"), flight.fail(KeyError())] == [1, 0]
    assert reply.get(0) == "A"


def test_a_cancelled_reply_says_so() -> None:
    flights = Flights()
    _, reply = flights.join("a")
    reply.cancel()
    with pytest.raises(CancelledError):
        reply.get(0)


@pytest.mark.parametrize(("deadlines", "latest"), [([1.0, 3.0, 2.0], 3.0), ([1.0, None], None)])
def test_the_flight_lasts_as_long_as_its_most_patient_caller(
    deadlines: list[float | None], latest: float | None
) -> None:
    flights = Flights()
    flight, *_ = [flights.join("a", deadline)[0] for deadline in deadlines]
    assert flight is not None
    assert flight.deadline == latest


def test_the_deadline_of_who_left_does_not_count() -> None:
    flights = Flights()
    flight, _ = flights.join("a", 1.0)
    _, patient = flights.join("a", 9.0)
    patient.cancel()
    assert flight is not None
    assert flight.deadline == 1.0


def test_many_threads_make_one_trip() -> None:
    flights, gate, led = Flights(), Barrier(8), list[object]()
    replies: list[Reply[str]] = []

    def ask() -> None:
        gate.wait()
        flight, reply = flights.join("a")
        replies.append(reply)
        if flight is not None:
            led.append(flight)

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(led), len(replies), flights.joined) == (1, 8, 7)


def test_who_flies_is_told_of_those_who_join_also_of_those_who_came_before() -> None:
    flights: Flights = SingleFlight()
    told: list[object] = []
    flight, _ = flights.join("a", note="leader's")
    assert flight is not None
    flights.join("a", note="early")
    flight.on_joined(told.append)
    flights.join("a", note="late")
    flights.join("b", note="another's")
    assert told == ["early", "late"]
    flight.succeed("answer")
