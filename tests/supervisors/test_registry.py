"""Names: who holds a key, for how long, and what a call to a name does when the holder dies."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from supervisors.errors import ActorDied, AlreadyRegistered, NotRegistered, SpecError
from supervisors.exits import NoProc
from supervisors.kernel import Kernel
from supervisors.registry import Registry
from tests.supervisors.actors import Background, Counter, spawn


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_key_leads_to_its_holder(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref, "value")
    assert registry.lookup("x") == [(ref, "value")]
    assert registry.whereis("x") is ref


def test_an_unknown_key_leads_nowhere(registry: Registry) -> None:
    assert registry.lookup("x") == []
    assert registry.whereis("x") is None


def test_a_unique_key_has_one_holder(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref, "first")
    for other in (spawn(kernel), ref):
        with pytest.raises(AlreadyRegistered) as caught:
            registry.register("x", other, "second")
        assert caught.value.ref is ref
    assert registry.lookup("x") == [(ref, "first")]


def test_a_refused_registration_leaves_nothing_behind(kernel: Kernel, registry: Registry) -> None:
    ref, other = spawn(kernel), spawn(kernel)
    registry.register("x", ref)
    with pytest.raises(AlreadyRegistered):
        registry.register("x", other)
    assert not other.mailbox.names


def test_a_death_frees_all_its_keys(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    for key in ("x", "y"):
        registry.register(key, ref)
    ref.stop()
    assert registry.keys() == []
    registry.register("x", spawn(kernel))


def test_a_dead_actor_cannot_take_a_name(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    ref.stop()
    with pytest.raises(ActorDied):
        registry.register("x", ref)
    assert registry.keys() == []


def test_only_the_holder_can_be_unregistered(kernel: Kernel, registry: Registry) -> None:
    ref, other = spawn(kernel), spawn(kernel)
    registry.register("x", ref)
    registry.unregister("x", other)
    registry.unregister("y", ref)
    assert registry.whereis("x") is ref
    registry.unregister("x", ref)
    registry.unregister("x", ref)
    assert registry.whereis("x") is None


def test_an_old_incarnation_cannot_delete_the_name_of_its_successor(kernel: Kernel, registry: Registry) -> None:
    old = spawn(kernel)
    registry.register("x", old)
    entry = next(iter(old.mailbox.names or ()))
    registry.unregister("x", old)
    new = spawn(kernel)
    registry.register("x", new)
    entry.drop()
    assert registry.whereis("x") is new


def test_keys_are_strict(kernel: Kernel, registry: Registry) -> None:
    refs = {key: spawn(kernel) for key in ("1",)}
    for key in (1, 1.0, True):
        registry.register(key, refs["1"])
    assert sorted(map(repr, registry.keys())) == ["1", "1.0", "True"]


def test_a_duplicate_key_has_many_holders(kernel: Kernel) -> None:
    registry = Registry("duplicate")
    a, b = spawn(kernel), spawn(kernel)
    for ref, value in ((a, 1), (b, 2), (a, 3)):
        registry.register("x", ref, value)
    assert registry.lookup("x") == [(a, 1), (b, 2), (a, 3)]
    registry.unregister("x", a)
    assert registry.lookup("x") == [(b, 2)]


def test_a_duplicate_registry_gives_no_addresses() -> None:
    with pytest.raises(SpecError):
        Registry("duplicate").via("x")


def test_keys_of_one_actor(kernel: Kernel, registry: Registry) -> None:
    a, b = spawn(kernel), spawn(kernel)
    registry.register("x", a)
    registry.register("y", b)
    assert registry.keys(a) == ["x"]


def test_dispatch_calls_once_with_all_holders(kernel: Kernel) -> None:
    registry, seen = Registry("duplicate"), []
    ref = spawn(kernel)
    registry.dispatch("x", seen.append)
    registry.register("x", ref, 1)
    registry.register("x", ref, 2)
    registry.dispatch("x", seen.append)
    assert seen == [[(ref, 1), (ref, 2)]]


def test_the_value_of_a_key_can_be_replaced_by_its_holder(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref, 1)
    assert registry.update_value("x", ref, lambda old: old + 1) == (2, 1)
    with pytest.raises(NotRegistered):
        registry.update_value("x", spawn(kernel), lambda old: old)


def test_select_filters_entries(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    for n in range(4):
        registry.register(n, ref, n * n)
    assert [key for key, _, _ in registry.select(lambda _key, _ref, value: value > 1)] == [2, 3]


# addresses


def test_a_name_is_called_like_a_ref(kernel: Kernel, registry: Registry) -> None:
    via = registry.via("x")
    ref = spawn(kernel, Counter, 1, name=via)
    assert via.call(Counter.add, 1) == 2
    assert asyncio.run(via.acall(Counter.add, 1)) == 3
    via.cast(Counter.add, 1)
    assert via.send_request(Counter.add, 1).get(5) == 5
    assert via.within(1.0).call(Counter.add, 0) == 5
    assert via.whereis() is ref


def test_a_name_without_a_holder_answers_noproc_at_once(registry: Registry) -> None:
    via = registry.via("x")
    for call in (
        lambda: via.call(Counter.add, 1),
        lambda: asyncio.run(via.acall(Counter.add, 1)),
        lambda: via.send_request(Counter.add, 1).get(0),
    ):
        with pytest.raises(ActorDied) as caught:
            call()
        assert caught.value.exit == NoProc()
    via.cast(Counter.add, 1)


def _dying_holder(kernel: Kernel, registry: Registry) -> tuple[Any, threading.Event]:
    ref, go, began = spawn(kernel, Counter, name=registry.via("x")), threading.Event(), threading.Event()
    ref.cast(Counter.wait_for, go, began)
    began.wait(5)
    ref.cast(Counter.crash, ValueError())
    return ref, go


def _queued(ref: Any, messages: int) -> None:
    while len(ref.mailbox.q) < messages:
        threading.Event().wait(0.001)


@pytest.mark.parametrize("awaiting", [False, True])
def test_what_was_certainly_not_handled_goes_to_the_successor(
    kernel: Kernel, registry: Registry, awaiting: bool
) -> None:
    via = registry.via("x")
    ref, go = _dying_holder(kernel, registry)
    call = Background(lambda: asyncio.run(via.acall(Counter.add, 1)) if awaiting else via.call(Counter.add, 1))
    _queued(ref, 2)
    go.set()
    ref.down().get(5)
    spawn(kernel, Counter, 10, name=via)
    assert call.value() == 11


def test_what_may_have_been_handled_is_not_sent_again(kernel: Kernel, registry: Registry) -> None:
    via = registry.via("x")
    ref = spawn(kernel, Counter, name=via)
    ref.mailbox.watch("successor", lambda _: None)
    with pytest.raises(ActorDied) as caught:
        via.call(Counter.crash, ValueError())
    assert caught.value.maybe_handled


def test_without_a_successor_the_death_is_reported_after_a_moment(
    still: Kernel, clock: Any, registry: Registry
) -> None:
    ref, go = _dying_holder(still, registry)
    call = Background(registry.via("x").call, Counter.add, 1)
    _queued(ref, 2)
    go.set()
    while not registry._arrivals:
        threading.Event().wait(0.001)
    while call.thread.is_alive():
        clock.advance(0.5)
    with pytest.raises(ActorDied) as caught:
        call.value()
    assert not caught.value.maybe_handled


def test_the_death_of_somebody_else_is_not_taken_for_the_holders(kernel: Kernel, registry: Registry) -> None:
    class Front(Counter):
        def forward(self, ref: Any) -> Any:
            self.value += 1
            return ref.send_request(Counter.add, 1)

    via, back = registry.via("x"), spawn(kernel)
    front = spawn(kernel, Front, name=via)
    back.stop()
    with pytest.raises(ActorDied):
        via.call(Front.forward, back)
    assert front.call(Counter.add, 0) == 1


def test_an_arrival_settles_with_the_next_holder(kernel: Kernel, registry: Registry) -> None:
    arrival = registry.arrival("x")
    assert not arrival.done()
    ref = spawn(kernel, Counter, name=registry.via("x"))
    assert arrival.get(5) is ref
    assert registry.arrival("x").get(0) is ref


def test_a_cancelled_arrival_is_forgotten(registry: Registry) -> None:
    registry.arrival("x").cancel()
    assert not registry._arrivals
