"""Starting a tree: in order, all or nothing, and nobody dies unseen."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors.actor import Actor
from supervisors.cell import IGNORE
from supervisors.errors import AlreadyStarted, SpecError, StartFailed
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.spec import ChildSpec
from supervisors.supervisor import Supervisor
from supervisors.testing import Log
from tests.supervisors.workers import (
    BOOM,
    ONE,
    TEMPORARY,
    InlineWorker,
    LoopWorker,
    OwnThreadWorker,
    Script,
    Worker,
    child,
    end,
    gone,
    ids,
    spec,
    state,
    supervise,
)


def test_children_start_in_order(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [spec(name, log) for name in "abc"])

    assert log == ["+a", "+b", "+c"]
    assert ids(sup) == ["a", "b", "c"]


def test_a_failing_start_stops_those_before_it_in_reverse(kernel: Kernel) -> None:
    log = Log()
    children = [spec("a", log), spec("b", log), spec("c", log, script=Script(BOOM)), spec("d", log)]
    with pytest.raises(StartFailed):
        supervise(kernel, children)

    assert log == ["+a", "+b", "!c", "-b", "-a"]


def test_a_failing_start_names_the_child_at_every_level(kernel: Kernel) -> None:
    inner = ChildSpec("inner", Supervisor, ([spec("c", Log(), script=Script(BOOM))],), {"strategy": ONE})
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, [inner])
    outer = caught.value.cause
    assert isinstance(outer, StartFailed)
    assert isinstance(outer.cause, StartFailed)

    assert (outer.id, outer.cause.id, outer.cause.cause) == ("inner", "c", BOOM)


def test_an_id_twice_fails_before_any_child_starts(kernel: Kernel) -> None:
    log = Log()
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, [spec("a", log), spec("a", log)])

    assert isinstance(caught.value.cause, SpecError)
    assert log == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("strategy", "one_for_one"), ("max_restarts", -1), ("max_seconds", 0), ("auto_shutdown", "never")],
)
def test_a_bad_option_is_refused_by_name(kernel: Kernel, option: str, value: Any) -> None:
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, **{option: value})

    assert isinstance(caught.value.cause, SpecError)
    assert caught.value.cause.field == option


def test_a_supervisor_without_a_strategy_does_not_start(kernel: Kernel) -> None:
    with pytest.raises(StartFailed, match="strategy"):
        kernel.spawn(Supervisor, [])


@pytest.mark.parametrize("error", [BOOM, SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_start_raises_is_the_failure_of_that_child(kernel: Kernel, error: BaseException) -> None:
    sup = supervise(kernel)
    with pytest.raises(StartFailed) as caught:
        sup.call(Supervisor.start_child, spec("a", Log(), script=Script(error)))

    assert caught.value.cause is error
    assert (sup.is_alive(), ids(sup)) == (True, [])


@pytest.mark.parametrize("error", [BOOM, SystemExit(1), KeyboardInterrupt()])
def test_a_start_function_that_raises_does_not_harm_the_supervisor(kernel: Kernel, error: BaseException) -> None:
    def start(kernel: Kernel) -> Ref[Worker]:
        raise error

    sup = supervise(kernel)
    with pytest.raises(StartFailed) as caught:
        sup.call(Supervisor.start_child, ChildSpec("a", start))

    assert (caught.value.id, caught.value.cause, ids(sup)) == ("a", error, [])


def test_a_start_function_must_give_a_ref(kernel: Kernel) -> None:
    sup = supervise(kernel)

    with pytest.raises(StartFailed, match="42"):
        sup.call(Supervisor.start_child, ChildSpec("a", lambda kernel: 42))


def test_a_start_function_is_run_again_at_a_restart(kernel: Kernel) -> None:
    log = Log()
    sup = supervise(kernel, [ChildSpec("a", lambda kernel: kernel.spawn(Worker, "a", log))])
    end(child(sup, "a"))

    assert child(sup, "a").call(Worker.hello) == "a"
    assert log == ["+a", "xa", "+a"]


def test_an_ignoring_child_is_kept_and_not_running(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(IGNORE))])

    assert state(sup, "a") is None


def test_an_ignoring_temporary_child_is_not_kept(kernel: Kernel) -> None:
    sup = supervise(kernel, [spec("a", Log(), script=Script(IGNORE), restart=TEMPORARY)])

    assert ids(sup) == []


def test_a_child_that_dies_while_a_later_one_starts_is_restarted(kernel: Kernel) -> None:
    log = Log()
    registry = Registry()

    class Killer(Actor):
        def init(self) -> None:
            victim = registry.whereis("a")
            assert victim is not None
            end(victim)

    sup = supervise(kernel, [spec("a", log, name=registry.via("a")), ChildSpec("b", Killer)])
    ids(sup)

    assert log == ["+a", "xa", "+a"]


def test_a_child_that_died_before_a_later_start_failed_is_skipped(kernel: Kernel) -> None:
    log = Log()
    registry = Registry()

    class Killer(Actor):
        def init(self) -> None:
            victim = registry.whereis("a")
            assert victim is not None
            end(victim)
            raise BOOM

    with pytest.raises(StartFailed):
        supervise(kernel, [spec("a", log, name=registry.via("a")), spec("b", log), ChildSpec("c", Killer)])

    assert log == ["+a", "+b", "xa", "-b"]


def test_a_taken_name_is_a_failed_start_in_a_tree(kernel: Kernel) -> None:
    name = Registry().via("n")
    kernel.spawn(Worker, "first", Log(), name=name)
    with pytest.raises(StartFailed) as caught:
        supervise(kernel, [spec("a", Log(), name=name)])

    assert isinstance(caught.value.cause, StartFailed)
    assert isinstance(caught.value.cause.cause, AlreadyStarted)


def test_a_taken_name_tells_start_child_who_has_it(kernel: Kernel) -> None:
    name = Registry().via("n")
    first = kernel.spawn(Worker, "first", Log(), name=name)
    sup = supervise(kernel)
    with pytest.raises(AlreadyStarted) as caught:
        sup.call(Supervisor.start_child, spec("a", Log(), name=name))

    assert caught.value.ref is first


@pytest.mark.parametrize("cls", [Worker, InlineWorker, LoopWorker, OwnThreadWorker])
def test_who_finds_the_name_at_once_is_answered_after_init(kernel: Kernel, cls: type[Worker]) -> None:
    class Early:
        label = "early"

        def claim(self, ref: Ref[Worker]) -> None:
            self.answer = ref.send_request(Worker.hello)

    name = Early()
    supervise(kernel, [spec("a", Log(), cls, name=name)])

    assert name.answer.get(5) == "a"


def test_a_subclass_brings_its_own_children(kernel: Kernel) -> None:
    log = Log()

    class Shop(Supervisor):
        def init(self) -> None:  # type: ignore[override]
            super().init([spec("till", log)], strategy=ONE)

    sup = supervise(kernel, [Shop])

    assert (ids(sup), log) == (["Shop"], ["+till"])


def test_a_supervisor_may_ignore(kernel: Kernel) -> None:
    class Nothing(Supervisor):
        def init(self) -> Any:  # type: ignore[override]
            return IGNORE

    assert kernel.spawn(Nothing) is IGNORE


def test_a_start_that_takes_too_long_fails_and_is_fenced(kernel: Kernel) -> None:
    log = Log()

    class Slow(Actor):
        def init(self) -> None:
            log.wait_for("let go", 10)

    sup = supervise(kernel)
    with pytest.raises(StartFailed, match=r"within 0\.01 s"):
        sup.call(Supervisor.start_child, ChildSpec("a", Slow, start_timeout=0.01))
    zombies = kernel.zombies
    log.add("let go")

    assert zombies == 1


def test_the_supervisor_that_failed_to_start_is_gone(kernel: Kernel) -> None:
    refs = []

    class Noted(Supervisor):
        def init(self) -> None:  # type: ignore[override]
            refs.append(self.ref)
            super().init([spec("a", Log(), script=Script(BOOM))], strategy=ONE)

    with pytest.raises(StartFailed):
        kernel.spawn(Noted)

    assert gone(refs[0]) is not None
    assert kernel.live() == []
