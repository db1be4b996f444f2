"""Events: attach, execute, detach; a handler that fails harms nobody."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.telemetry import FAILURE, Telemetry

EVENT = ("actor", "exit")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def seen(telemetry: Telemetry) -> list[Any]:
    seen: list[Any] = []
    telemetry.attach("list", EVENT, lambda *event: seen.append(event))
    return seen


def test_a_handler_gets_event_measurements_and_metadata(telemetry: Telemetry, seen: list[Any]) -> None:
    telemetry.execute(EVENT, {"messages": 3}, {"name": "a"})
    assert seen == [(EVENT, {"messages": 3}, {"name": "a"})]


def test_an_event_nobody_attached_to_goes_nowhere(telemetry: Telemetry, seen: list[Any]) -> None:
    telemetry.execute(("actor", "start"))
    assert seen == []


def test_one_handler_can_attach_to_many_events(telemetry: Telemetry) -> None:
    seen: list[Any] = []
    telemetry.attach("many", [("a",), ("b", "c")], lambda event, *_: seen.append(event))
    telemetry.execute(("a",))
    telemetry.execute(("b", "c"))
    assert seen == [("a",), ("b", "c")]


def test_a_detached_handler_is_not_called(telemetry: Telemetry, seen: list[Any]) -> None:
    assert telemetry.detach("list")
    telemetry.execute(EVENT)
    assert seen == []
    assert not telemetry.attached(EVENT)


def test_detaching_an_unknown_handler_is_false(telemetry: Telemetry) -> None:
    assert not telemetry.detach("nobody")


def test_an_id_can_be_attached_once_an_event(telemetry: Telemetry, seen: list[Any]) -> None:
    with pytest.raises(ValueError, match="attached"):
        telemetry.attach("list", EVENT, print)


def test_a_handler_that_raises_is_detached_and_reported(telemetry: Telemetry) -> None:
    failures: list[Any] = []
    telemetry.attach("broken", EVENT, lambda *_: 1 // 0)
    telemetry.attach("watch", FAILURE, lambda _event, _measurements, metadata: failures.append(metadata))
    telemetry.execute(EVENT)
    telemetry.execute(EVENT)
    assert [failure["handler_id"] for failure in failures] == ["broken"]


def test_a_handler_that_raises_does_not_keep_the_others_from_theirs(telemetry: Telemetry) -> None:
    telemetry.attach("broken", EVENT, lambda *_: 1 // 0)
    seen: list[Any] = []
    telemetry.attach("after", EVENT, lambda *_: seen.append(1))
    telemetry.execute(EVENT)
    assert seen == [1]


def test_a_failing_failure_handler_ends_the_chain(telemetry: Telemetry) -> None:
    telemetry.attach("worse", FAILURE, lambda *_: 1 // 0)
    telemetry.attach("broken", EVENT, lambda *_: 1 // 0)
    telemetry.execute(EVENT)
    assert not telemetry.attached(FAILURE)


def test_a_span_tells_start_and_stop_with_its_duration(telemetry: Telemetry) -> None:
    seen: list[Any] = []
    telemetry.attach("span", [("x", "start"), ("x", "stop")], lambda *event: seen.append(event))
    with telemetry.span(("x",), {"id": 1}) as extra:
        extra["rows"] = 2
    assert [event[0][-1] for event in seen] == ["start", "stop"]
    assert seen[1][1]["duration"] >= 0
    assert seen[1][2] == {"id": 1, "rows": 2}


def test_a_span_that_raises_tells_the_exception(telemetry: Telemetry) -> None:
    seen: list[Any] = []
    telemetry.attach("span", ("x", "exception"), lambda *event: seen.append(event))
    with pytest.raises(ZeroDivisionError), telemetry.span(("x",)):
        _ = 1 // 0
    assert isinstance(seen[0][2]["error"], ZeroDivisionError)
