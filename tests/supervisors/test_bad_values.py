"""Values that cannot be shown, and exits that are none: an error for who gave them, never an end of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from supervisors import links, sys
from supervisors.actor import Actor
from supervisors.errors import ActorDied, SpecError, StartFailed
from supervisors.exits import Crash, Exit, Normal, Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.reports import describe
from supervisors.spec import ChildSpec
from supervisors.stages.from_iterable import FromIterable
from supervisors.stages.stream import stream
from supervisors.stages.subscription import To
from supervisors.stopping import stop
from supervisors.supervisor import Supervisor
from supervisors.system import System
from supervisors.testing import Log
from tests.supervisors.workers import Worker, gone, ids, spec


class Nameless:
    """Has no words for itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__

    def __call__(self, kernel: Kernel) -> Ref[Any]:
        return kernel.spawn(Worker, "a", Log())


class NamelessError(Exception):
    __str__ = __repr__ = Nameless.__repr__  # type: ignore[assignment]


class Keeper(Actor):
    """Keeps something, and crashes."""

    def init(self, kept: object = None) -> None:
        self.kept = kept

    def fail(self, error: BaseException) -> None:
        raise error


class Prudish(Keeper):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("made", "exit"),
    [
        (ChildSpec(Nameless(), Keeper), Crash(ValueError("no"))),
        (ChildSpec("a", Nameless()), Crash(ValueError("no"))),
        (ChildSpec("a", Keeper, (Nameless(),)), Crash(ValueError("no"))),
        (ChildSpec("a", Keeper), Shutdown(Nameless())),
        (ChildSpec("a", Keeper), Crash(NamelessError())),
        (ChildSpec("a", Prudish), Crash(ValueError("no"))),
    ],
    ids=["id", "start", "state", "detail", "error", "format_status"],
)
def test_what_cannot_be_shown_is_reported_nevertheless(
    system: System, written: list[dict[str, Any]], made: ChildSpec, exit: Exit
) -> None:
    ref = system.start_child(made)
    ref.exit(exit)
    gone(ref)
    assert len(ids(system.root)) == 1
    assert system.snapshot()["tree"]
    system.shutdown()
    assert [report["error_context"] for report in written] == ["child_terminated"]


def test_a_logger_that_wants_to_end_the_process_ends_nobody() -> None:
    def leave(logger: object, level: str, fields: Any) -> Any:
        raise SystemExit(1)

    failures = Log()
    structlog.configure(processors=[leave])
    try:
        with System(children=[spec("a", Log())]) as system:
            failure = ("supervisor", "report", "failure")
            system.telemetry.attach("test", failure, lambda *_: failures.add("seen"))
            system.root.call(Supervisor.which_child, "a").ref.exit(Crash(ValueError("no")))  # type: ignore[union-attr]
            failures.wait_for("seen")
            assert ids(system.root) == ["a"]
    finally:
        structlog.reset_defaults()


def test_an_error_of_ours_can_always_be_shown() -> None:
    assert "NamelessError" in str(ActorDied("a", Crash(NamelessError()), True))
    assert "Nameless" in str(ActorDied("a", Shutdown(Nameless()), True))
    assert "Nameless" in describe(Shutdown(Nameless()))


@pytest.mark.parametrize(
    "what", [Keeper(), "Keeper", dict, lambda: Keeper()], ids=["actor", "name", "dict", "function"]
)
def test_what_is_no_class_of_actors_is_refused_with_what_to_write(system: System, what: Any) -> None:
    with pytest.raises(SpecError, match=r"spawn\(Counter, 42\)"):
        system.spawn(what)
    assert len(system.kernel.live()) == 1


@pytest.mark.parametrize(
    "use",
    [
        sys.get_state,
        lambda name: sys.request(name, "get_state"),
        stop,
        To,
        lambda name: stream([name]),
        lambda name: ChildSpec("a", Keeper, name=name),
    ],
    ids=["get_state", "request", "stop", "To", "stream", "ChildSpec"],
)
@pytest.mark.parametrize("name", ["d", 5])
def test_a_key_where_an_address_is_needed_is_refused_with_what_to_write(
    use: Callable[[Any], object], name: object
) -> None:
    with pytest.raises(SpecError, match=r"system\.via"):
        use(name)


def test_one_producer_that_is_in_no_list_is_refused_with_what_to_write(system: System) -> None:
    with pytest.raises(SpecError, match=r"stream\(\[producer\]\)"):
        stream(system.spawn(FromIterable, [1]))  # type: ignore[arg-type]


class Taker(Keeper):
    """Its handlers take something."""

    def keep(self, kept: object, *, twice: bool = False) -> None:
        self.kept = kept

    def apply(self, function: Callable[..., object]) -> None:
        function()


class InlineTaker(Taker):
    inline = True


class LoopTaker(Taker):
    dispatcher = "loop"

    async def later(self, kept: object) -> None:
        self.kept = kept


@pytest.mark.parametrize(
    ("cls", "method", "args", "kwargs"),
    [
        (Taker, Taker.keep, (), {}),
        (Taker, Taker.keep, (1, 2), {}),
        (Taker, Taker.keep, (1,), {"thrice": True}),
        (InlineTaker, Taker.keep, (), {}),
        (LoopTaker, Taker.keep, (), {}),
        (LoopTaker, LoopTaker.later, (), {}),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_caller_and_end_nobody(
    system: System, cls: Any, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    ref = system.spawn(cls, "kept")

    async def awaited() -> None:
        await ref.acall(method, *args, **kwargs)

    with pytest.raises(TypeError, match="argument"):
        ref.call(method, *args, **kwargs)
    with pytest.raises(TypeError, match="argument"):
        asyncio.run(awaited())
    assert sys.get_state(ref)["kept"] == "kept"


@pytest.mark.parametrize("cls", [Taker, InlineTaker, LoopTaker])
def test_a_type_error_inside_of_a_handler_is_a_crash(system: System, cls: Any) -> None:
    ref = system.spawn(cls)
    with pytest.raises(ActorDied) as died:
        ref.call(Taker.apply, Taker.keep)
    assert isinstance(died.value.exit, Crash)


def test_arguments_of_a_cast_that_do_not_fit_are_a_crash_for_nobody_waits(system: System) -> None:
    ref = system.spawn(Taker)
    ref.cast(Taker.keep)  # type: ignore[call-arg]
    assert isinstance(ref.down().get(5), Crash)


@pytest.mark.parametrize("exit", ["shutdown", ValueError("no"), None, Normal])
@pytest.mark.parametrize(
    "end",
    [
        lambda ref, what: ref.exit(what),
        lambda ref, what: stop(ref, what),
        lambda ref, what: links.exit(ref, what),
    ],
    ids=["ref.exit", "stop", "links.exit"],
)
def test_what_is_no_exit_is_refused_before_anybody_ends(
    system: System, end: Callable[[Ref[Any], Any], object], exit: Any
) -> None:
    ref = system.spawn(Keeper)
    with pytest.raises(SpecError, match="exit cannot be"):
        end(ref, exit)
    assert ref.is_alive()


def test_an_actor_that_stops_itself_with_what_is_no_exit_crashes(system: System) -> None:
    class Wrong(Keeper):
        def end(self) -> None:
            self.stop("shutdown")  # type: ignore[arg-type]

    with pytest.raises(ActorDied) as caught:
        system.spawn(Wrong).call(Wrong.end)
    assert isinstance(caught.value.__cause__, SpecError)


def test_a_crash_has_an_exception() -> None:
    with pytest.raises(TypeError, match="not a str"):
        Crash("no")  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", ["1", None, float("nan")])
def test_seconds_that_are_no_number_end_only_who_asked_for_them(system: System, seconds: Any) -> None:
    class Waiting(Keeper):
        def wait(self) -> None:
            self.send_after(seconds, Keeper.init)

    ref = system.spawn(Waiting)
    down = ref.down()
    with pytest.raises(ActorDied) as caught:
        ref.call(Waiting.wait)
    assert isinstance(caught.value.__cause__, SpecError)
    assert isinstance(down.get(5), Crash)


@pytest.mark.parametrize("seconds", ["1", float("nan")])
def test_a_timeout_that_is_no_number_is_refused(system: System, seconds: Any) -> None:
    ref = system.spawn(Keeper, name="keeper")
    for address in (ref, system.via("keeper")):
        with pytest.raises(SpecError, match="within"):
            address.within(seconds)


def itself(system: System) -> Ref[Any]:
    return system.root


def a_sibling(system: System) -> Ref[Any]:
    return system.start_child(ChildSpec("sibling", Keeper))


@pytest.mark.parametrize("given", [itself, a_sibling])
def test_a_start_function_cannot_give_who_is_a_child_or_above_it(
    system: System, given: Callable[[System], Ref[Any]]
) -> None:
    ref = given(system)
    with pytest.raises(StartFailed, match="cannot be a child"):
        system.start_child(ChildSpec("a", lambda kernel: ref))
    assert ref.is_alive()
    assert "a" not in ids(system.root)


class Touchy:
    """A key that at some time does not want to be compared any more."""

    is_angry = False

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.is_angry:
            raise RuntimeError("do not compare me")
        return self is other


def test_a_name_that_cannot_be_dropped_does_not_keep_a_death_from_being_told(system: System) -> None:
    ref = system.spawn(Keeper)
    keys = [Touchy(), Touchy()]
    for key in keys:
        system.registry.register(key, ref)
    for key in keys:
        key.is_angry = True
    down = ref.down()
    ref.exit(Shutdown())
    assert down.get(5) == Shutdown()
