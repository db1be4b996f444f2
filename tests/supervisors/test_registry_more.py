"""The rest of Elixir's Registry: listeners, matches, counts, values, meta, locks, strict keys."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from supervisors.errors import CallCycle, CallTimeout, NotRegistered, SpecError
from supervisors.kernel import Kernel
from supervisors.registry import Registered, Registry, Unregistered
from tests.supervisors.actors import Background, Counter, downs, in_thread, spawn


@pytest.fixture
def registry() -> Registry:
    return Registry()


def big(value: Any) -> bool:
    return bool(value > 1)


# listeners


def test_a_listener_is_told_of_what_comes_and_goes(kernel: Kernel) -> None:
    heard: list[Any] = []
    registry = Registry(listeners=[heard.append])
    ref = spawn(kernel)
    registry.register("x", ref, 7)
    registry.unregister("x", ref)
    assert heard == [Registered(registry, "x", ref, 7), Unregistered(registry, "x", ref)]


def test_a_listener_is_told_of_a_death_before_the_watchers_are(kernel: Kernel) -> None:
    watcher = spawn(kernel)
    registry = Registry(listeners=[watcher])
    ref = spawn(kernel)
    registry.register("x", ref)
    watcher.call(Counter.watch_over, ref)
    ref.stop()
    assert watcher.call(Counter.notes) == [
        Registered(registry, "x", ref, None),
        Unregistered(registry, "x", ref),
        *downs(watcher),
    ]


def test_a_refused_registration_is_no_news(kernel: Kernel) -> None:
    heard: list[Any] = []
    registry = Registry(listeners=[heard.append])
    registry.register("x", spawn(kernel))
    with pytest.raises(Exception, match="is registered for"):
        registry.register("x", spawn(kernel))
    registry.unregister("x", spawn(kernel))
    assert len(heard) == 1


def test_a_listener_that_raises_harms_nobody(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(event: object) -> None:
        raise SystemExit(1)

    registry = Registry(listeners=[refuse])
    with caplog.at_level(logging.CRITICAL + 1):
        registry.register("x", spawn(kernel))
    assert registry.count() == 1


def test_a_dead_listener_is_not_missed(kernel: Kernel) -> None:
    listener = spawn(kernel)
    registry = Registry(listeners=[listener])
    listener.stop()
    registry.register("x", spawn(kernel))
    assert registry.keys() == ["x"]


# asking for more than one key


def test_match_filters_the_values_of_a_key(kernel: Kernel) -> None:
    registry = Registry("duplicate")
    a, b = spawn(kernel), spawn(kernel)
    for ref, value in ((a, 1), (b, 2), (a, 3)):
        registry.register("x", ref, value)
    assert registry.match("x", big) == [(b, 2), (a, 3)]
    assert registry.count_match("x", big) == 2


def test_entries_are_counted(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    for n in range(4):
        registry.register(n, ref, n)
    assert registry.count() == 4
    assert registry.count_select(lambda key, _ref, _value: big(key)) == 2


def test_the_dead_are_not_counted(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref)
    ref.stop()
    assert (registry.count(), registry.match("x", lambda _: True)) == (0, [])


def test_values_are_those_of_one_holder(kernel: Kernel) -> None:
    registry = Registry("duplicate")
    a, b = spawn(kernel), spawn(kernel)
    for ref, value in ((a, 1), (b, 2), (a, 3)):
        registry.register("x", ref, value)
    assert registry.values("x", a) == [1, 3]


def test_unregister_match_drops_only_what_matches_and_is_ones_own(kernel: Kernel) -> None:
    registry = Registry("duplicate")
    a, b = spawn(kernel), spawn(kernel)
    for ref, value in ((a, 1), (b, 2), (a, 3)):
        registry.register("x", ref, value)
    registry.unregister_match("x", a, big)
    assert registry.lookup("x") == [(a, 1), (b, 2)]


# values


def test_a_value_of_a_duplicate_key_cannot_be_replaced(kernel: Kernel) -> None:
    registry, ref = Registry("duplicate"), spawn(kernel)
    registry.register("x", ref, 1)
    with pytest.raises(SpecError, match="unique"):
        registry.update_value("x", ref, lambda old: old)


def test_an_update_may_use_the_registry(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref, 1)
    assert registry.update_value("x", ref, lambda old: old + registry.count()) == (2, 1)


def test_an_update_that_was_overtaken_is_made_again(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    registry.register("x", ref, 1000)

    def add(old: Any) -> Any:
        if old == 1000:
            registry.update_value("x", ref, lambda _: 2000)
        return old + 1

    assert registry.update_value("x", ref, add) == (2001, 2000)


# keys


def test_keys_are_strict_inside_of_tuples(kernel: Kernel, registry: Registry) -> None:
    ref = spawn(kernel)
    for key in (("a", 1), ("a", 1.0), ("a", (True,)), ("a", (1,))):
        registry.register(key, ref)
    assert registry.count() == 4


def test_addresses_are_as_strict_as_their_keys(registry: Registry) -> None:
    assert registry.via(1) != registry.via(True)
    assert registry.via(("a", 1)) == registry.via(("a", 1))


# meta


def test_a_registry_keeps_values_of_its_own(registry: Registry) -> None:
    registry.put_meta("x", 1)
    registry.put_meta("x", 2)
    assert registry.meta("x") == 2


def test_an_unknown_meta_is_an_error(registry: Registry) -> None:
    registry.put_meta(1, "one")
    registry.delete_meta(1)
    registry.delete_meta(1)
    with pytest.raises(NotRegistered):
        registry.meta(1)


# locks


def hold(registry: Registry, key: object, until: threading.Event) -> tuple[Background, threading.Event]:
    """A thread that has the lock until the event is set."""
    inside = threading.Event()
    thread = Background(registry.lock, key, lambda: (inside.set(), until.wait(10)))
    assert inside.wait(5)
    return thread, inside


def test_a_lock_gives_what_its_function_gives(registry: Registry) -> None:
    assert registry.lock("x", lambda: 7) == 7


def test_a_lock_is_had_by_one_at_a_time(registry: Registry) -> None:
    until, order = threading.Event(), []
    first, _ = hold(registry, "x", until)
    second = Background(registry.lock, "x", lambda: order.append("second"))
    other = in_thread(registry.lock, "y", lambda: order.append("other key"))
    until.set()
    first.value(), second.value()
    assert (order, other) == (["other key", "second"], None)


def test_a_lock_is_freed_by_whoever_raises(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError):
        registry.lock("x", lambda: 1 // 0)
    assert registry.lock("x", lambda: "free") == "free"


def test_a_lock_is_waited_for_within_a_time(registry: Registry) -> None:
    until = threading.Event()
    first, _ = hold(registry, "x", until)
    with pytest.raises(CallTimeout, match="the lock of 'x'"):
        registry.lock("x", lambda: None, timeout=0.01)
    until.set()
    first.value()
    assert registry.lock("x", lambda: "free") == "free"


def test_who_has_a_lock_cannot_wait_for_it(registry: Registry) -> None:
    with pytest.raises(CallCycle):
        registry.lock("x", lambda: registry.lock("x", lambda: None))


class Locker(Counter):
    def stay(self, registry: Registry, inside: threading.Event, until: threading.Event) -> None:
        registry.lock("x", lambda: (inside.set(), until.wait(10)))

    def take(self, registry: Registry) -> Any:
        return registry.lock("x", lambda: "mine")


def test_a_lock_is_freed_by_the_death_of_its_holder(kernel: Kernel, registry: Registry) -> None:
    inside, until = threading.Event(), threading.Event()
    ref = spawn(kernel, Locker)
    ref.cast(Locker.stay, registry, inside, until)
    assert inside.wait(5)
    waiting = Background(registry.lock, "x", lambda: "free")
    ref.fence()
    assert waiting.value() == "free"
    until.set()


def test_an_actor_that_died_waiting_does_not_get_the_lock(kernel: Kernel, registry: Registry) -> None:
    until = threading.Event()
    first, _ = hold(registry, "x", until)
    ref = spawn(kernel, Locker)
    call = Background(ref.call, Locker.take, registry)
    while not registry._locks._queues or len(next(iter(registry._locks._queues.values()))) < 2:
        threading.Event().wait(0.001)
    ref.fence()
    until.set()
    first.value()
    with pytest.raises(Exception, match="no answer"):
        call.value()
    assert registry.lock("x", lambda: "free") == "free"


def test_a_loop_takes_a_free_lock_and_waits_for_none(registry: Registry) -> None:
    until = threading.Event()

    async def take() -> str:
        return registry.lock("x", lambda: "free")

    assert asyncio.run(take()) == "free"
    first, _ = hold(registry, "x", until)
    with pytest.raises(Exception, match="would block"):
        asyncio.run(take())
    until.set()
    first.value()


def test_locks_that_nobody_has_take_no_room(registry: Registry) -> None:
    for n in range(10):
        registry.lock(n, lambda: None)
    assert registry._locks._queues == {}


class Fencer(Counter):
    def take(self, registry: Registry) -> None:
        self.ref.fence()
        registry.register("x", self.ref)


def test_a_fenced_actor_registers_nothing(kernel: Kernel) -> None:
    heard: list[Any] = []
    registry = Registry(listeners=[heard.append])
    with pytest.raises(Exception, match="fenced"):
        spawn(kernel, Fencer).call(Fencer.take, registry)
    assert heard == []
