"""`rt.program(name)`: the handle of a started program, by the name it was started as."""

from __future__ import annotations

import asyncio

import pytest

from dspy_actors.errors import NameTaken, NoRuntime, UnknownProgram
from dspy_actors.runtime import Runtime
from tests.dspy_actors.programs import PATIENCE, qa, runtime


def test_a_started_program_is_found_by_its_name() -> None:
    with runtime() as rt:
        with rt.using(tenant="team"):
            started = rt.start(qa(), name="inner")
        assert rt.program("inner") is started
        assert rt.program("inner").settings.tenant == "team"
        assert rt.program("inner")(question="x").answer == "x"


def test_a_program_without_a_given_name_is_found_by_the_one_it_got() -> None:
    with runtime() as rt:
        started = rt.start(qa())
        assert rt.program(started.name) is started


def test_its_actor_is_registered_as_a_module_of_that_name() -> None:
    with runtime() as rt:
        rt.start(qa(), name="inner")
        assert rt.registry.whereis(("module", "inner")) is not None


def test_an_unknown_name_is_a_key_error_that_lists_those_there_are() -> None:
    with runtime() as rt:
        for name in ("b", "a"):
            rt.start(qa(), name=name)
        with pytest.raises(KeyError) as caught:
            rt.program("c")
    assert isinstance(caught.value, UnknownProgram)
    assert caught.value.name == "c"
    assert str(caught.value) == "no program called 'c' runs in this runtime; there are: 'a', 'b'"


def test_a_module_that_is_called_without_a_handle_is_not_among_them() -> None:
    with runtime() as rt:
        qa()(question="x")
        with pytest.raises(UnknownProgram, match="there are: none"):
            rt.program("predict-1")


def test_a_stopped_program_is_found_no_more_and_its_name_may_be_taken_again() -> None:
    with runtime() as rt:
        first = rt.start(qa(), name="inner")
        actor = rt.registry.whereis(("module", "inner"))
        assert actor is not None
        first.stop()
        with pytest.raises(UnknownProgram):
            rt.program("inner")
        actor.down().get(timeout=PATIENCE)
        second = rt.start(qa(), name="inner")
        assert rt.program("inner") is second is not first


def test_who_comes_second_by_a_name_takes_nothing_from_the_first() -> None:
    with runtime() as rt:
        first = rt.start(qa(), name="inner")
        with pytest.raises(NameTaken):
            rt.start(qa(), name="inner")
        assert rt.program("inner") is first


def test_who_came_second_by_a_name_stops_nobody_but_itself() -> None:
    async def main() -> None:
        async with runtime() as rt:
            first = rt.start(qa(), name="inner")
            await first.acall(question="x")
            second = rt.start(qa(), name="inner")  # on a loop this waits for nobody, so there is a handle
            with pytest.raises(NameTaken):
                await second.acall(question="x")
            actor = rt.registry.whereis(("module", "inner"))
            second.stop()
            rt.start(qa(), name="other")
            await rt.program("other").acall(question="x")  # started by whoever would have ended the first
            assert rt.program("inner") is first
            assert rt.registry.whereis(("module", "inner")) == actor is not None

    asyncio.run(main())


def test_a_program_started_on_an_event_loop_is_found_at_once() -> None:
    async def main() -> None:
        async with runtime() as rt:
            started = rt.start(qa(), name="inner")
            assert rt.program("inner") is started
            assert (await rt.program("inner").acall(question="x")).answer == "x"

    asyncio.run(main())


def test_before_its_start_a_runtime_has_none() -> None:
    with pytest.raises(NoRuntime):
        Runtime("embedded/knn").program("inner")
