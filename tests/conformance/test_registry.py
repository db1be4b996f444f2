"""Section G: names."""

from __future__ import annotations

from typing import Any

import pytest

from supervisors import steps
from supervisors.errors import ActorDied, AlreadyRegistered, NotRegistered, SpecError
from supervisors.kernel import Kernel
from supervisors.registry import Registered, Registry, Unregistered
from supervisors.testing import Log, wait_until
from tests.conformance.actors import ENDS, KINDS, Background, Gate, Worker, answer, finish, worker
from tests.conformance.words import BOOM, down, recorded, word

kinds = pytest.mark.parametrize("cls", KINDS)
ends = pytest.mark.parametrize(("cls", "how"), ENDS)


def values(registry: Registry, key: Any) -> list[Any]:
    return [value for _, value in registry.lookup(key)]


def test_g01_a_unique_key_is_taken_once_also_by_its_owner(kernel: Kernel) -> None:
    registry, a, b = Registry(), worker(kernel), worker(kernel)
    answers = {
        "first": answer(registry.register, "k", a, 1),
        "self": answer(registry.register, "k", a, 2),
        "other": answer(registry.register, "k", b, 3),
    }

    assert answers | {"values": values(registry, "k")} == recorded("G01")


def test_g01_who_is_refused_learns_who_has_it(kernel: Kernel) -> None:
    registry, a = Registry(), worker(kernel)
    registry.register("k", a)
    with pytest.raises(AlreadyRegistered) as caught:
        registry.register("k", worker(kernel))

    assert caught.value.ref is a


def test_g02_a_lookup_gives_holders_and_values(kernel: Kernel) -> None:
    registry, a = Registry(), worker(kernel)
    registry.register("k", a, 1)
    there = [[ref is a, value] for ref, value in registry.lookup("k")]

    assert {"there": there, "missing": registry.lookup("x")} == recorded("G02")


def test_g03_unregister_is_for_ones_own_entries_and_never_fails(kernel: Kernel) -> None:
    registry, a, me = Registry(), worker(kernel), worker(kernel)
    registry.register("k", a, 1)
    answers = [answer(registry.unregister, "k", me), answer(registry.unregister, "nothing", me)]
    still = len(registry.lookup("k"))
    registry.unregister("k", a)

    seen = {"answers": answers, "of_another_stays": still, "own_goes": len(registry.lookup("k"))}
    assert seen == recorded("G03")


@kinds
def test_g04_a_crash_frees_all_keys_of_the_dead(kernel: Kernel, cls: type[Worker]) -> None:
    registry, a = Registry(), worker(kernel, cls=cls)
    for key in ("x", "y"):
        registry.register(key, a, 1)
    finish(a)

    assert [len(registry.lookup(key)) for key in ("x", "y")] == recorded("G04")


@ends
def test_g04_nothing_of_the_dead_is_kept(kernel: Kernel, cls: type[Worker], how: str) -> None:
    registry, a = Registry("duplicate"), worker(kernel, cls=cls)
    registry.register("k", a, 1)
    finish(a, how)

    assert registry._table == {}


@ends
def test_g05_no_lookup_ever_gives_the_dead_once_its_end_is_told(kernel: Kernel, cls: type[Worker], how: str) -> None:
    registry, seen = Registry("duplicate"), []
    a = worker(kernel, cls=cls)
    registry.register("k", a, 1)
    a.down().add_done_callback(lambda _: seen.append((registry.lookup("k"), registry.keys(), registry.keys(a))))
    finish(a, how)

    assert seen == [([], [], [])]


@kinds
def test_g06_whereis_never_gives_the_dead(kernel: Kernel, cls: type[Worker]) -> None:
    registry, found = Registry(), set()
    for _ in range(50):
        a = worker(kernel, cls=cls)
        registry.register("k", a)
        a.cast(Worker.crash)
        down(a)
        found.add(registry.whereis("k"))

    assert list(found) == recorded("G06")


@kinds
def test_g07_the_key_of_the_dead_can_be_taken_at_once(kernel: Kernel, cls: type[Worker]) -> None:
    registry, me, answers = Registry(), worker(kernel), set()
    for _ in range(50):
        a = worker(kernel, cls=cls)
        registry.register("k", a)
        a.cast(Worker.crash)
        down(a)
        answers.add(answer(registry.register, "k", me))
        registry.unregister("k", me)

    assert list(answers) == recorded("G07")


def test_g07_the_key_of_one_who_is_just_dying_can_be_taken(kernel: Kernel) -> None:
    registry, heir, dying = Registry(), worker(kernel), worker(kernel)
    registry.register("k", dying)
    answers = []

    def step(name: str, about: object) -> None:
        if name == "finish:dead" and about is dying.mailbox:
            answers.append(answer(registry.register, "k", heir))

    with steps.installed(step):
        finish(dying)

    assert (answers, registry.whereis("k")) == (recorded("G07"), heir)


def test_g08_a_second_start_under_one_name_is_already_started(kernel: Kernel) -> None:
    name = Registry().via("k")

    assert [answer(lambda: kernel.spawn(Worker, "a", Log(), name=name)) for _ in range(2)] == recorded("G08")


def test_g09_a_name_brings_its_value(kernel: Kernel) -> None:
    registry = Registry()
    kernel.spawn(Worker, "a", Log(), name=registry.via("k", "its_value"))

    assert values(registry, "k") == recorded("G09")


def test_g10_a_name_without_a_holder_is_noproc_for_calls_and_silent_for_casts() -> None:
    name = Registry().via("nobody")
    with pytest.raises(ActorDied) as caught:
        name.call(Worker.hello)
    seen = {
        "call": f"exit {word(caught.value.exit)}",
        "cast": answer(name.cast, Worker.hello),
        "whereis": name.whereis(),
    }

    assert seen == recorded("G10")


def test_g11_a_value_is_updated_by_its_owner_only(kernel: Kernel) -> None:
    registry, a, b = Registry(), worker(kernel), worker(kernel)
    registry.register("k", a, 1)
    own = list(registry.update_value("k", a, lambda old: old + 1))

    assert (own, recorded("G11")["of_another"], recorded("G11")["unknown"]) == (
        recorded("G11")["own"],
        "error",
        "error",
    )
    for key, ref in (("k", b), ("x", a)):
        with pytest.raises(NotRegistered):
            registry.update_value(key, ref, lambda old: old + 1)


def test_g12_keys_that_are_equal_but_of_another_type_are_others(kernel: Kernel) -> None:
    registry, a = Registry(), worker(kernel)
    keys = [1, 1.0, True]

    assert [answer(registry.register, key, a, key) for key in keys] == [*recorded("G12"), "ok"]
    assert [values(registry, key) for key in keys] == [[1], [1.0], [True]]


def test_g13_a_duplicate_key_has_many_holders_and_the_same_more_than_once(kernel: Kernel) -> None:
    registry, me, a = Registry("duplicate"), worker(kernel), worker(kernel)
    for ref, value in ((me, 1), (me, 2), (a, 3)):
        registry.register("k", ref, value)
    before = sorted(values(registry, "k"))
    registry.unregister("k", me)

    assert {"before": before, "left": values(registry, "k")} == recorded("G13")


def test_g14_dispatch_calls_once_with_all_holders_and_not_at_all_without(kernel: Kernel) -> None:
    registry, a = Registry("duplicate"), worker(kernel)
    calls: list[list[str]] = []
    for value in (1, 2):
        registry.register("k", a, value)
    registry.dispatch("k", lambda entries: calls.append(sorted(str(value) for _, value in entries)))
    registry.dispatch("empty", lambda entries: calls.append([]))

    assert calls == [[str(value) for value in call] for call in recorded("G14")["calls"]]


def test_g14_what_a_dispatch_raises_is_the_callers(kernel: Kernel) -> None:
    registry = Registry("duplicate")
    registry.register("k", worker(kernel))

    def fail(entries: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError) as caught:
        registry.dispatch("k", fail)
    assert type(caught.value).__name__ == recorded("G14")["raises"]


def test_g15_a_duplicate_key_is_no_name() -> None:
    assert recorded("G15") == "ArgumentError"
    with pytest.raises(SpecError):
        Registry("duplicate").via("k")


def test_g16_entries_are_selected_counted_and_dropped_by_condition(kernel: Kernel) -> None:
    registry, me = Registry("duplicate"), worker(kernel)
    for key, value in (("a", 1), ("a", 2), ("b", 3)):
        registry.register(key, me, value)
    selected = sorted([key, value] for key, _, value in registry.select(lambda key, ref, value: value > 1))
    count = registry.count_match("a", lambda value: True)
    registry.unregister_match("a", me, lambda value: value == 1)
    left = {"count_all": registry.count(), "left": values(registry, "a")}

    assert {"select": selected, "count": count} | left == recorded("G16")


def test_g17_listeners_are_told_of_what_comes_and_goes(kernel: Kernel) -> None:
    heard: list[list[Any]] = []

    def hear(event: Registered | Unregistered) -> None:
        kind = type(event).__name__.lower().removesuffix("ed")
        heard.append([kind, event.key, event.value] if isinstance(event, Registered) else [kind, event.key])

    registry, a = Registry(listeners=[hear]), worker(kernel)
    registry.register("k", a, 1)
    registry.unregister("k", a)

    assert heard == recorded("G17")


@kinds
def test_g18_a_registry_is_no_actor_and_outlives_all_of_them(kernel: Kernel, cls: type[Worker]) -> None:
    registry = Registry()
    for _ in range(3):
        a = worker(kernel, cls=cls)
        registry.register("k", a)
        finish(a, "killed")

    assert answer(registry.register, "k", worker(kernel)) == "ok"


def test_g20_a_refused_registration_leaves_nothing(kernel: Kernel) -> None:
    registry, a, b, dead = Registry(), worker(kernel), worker(kernel), worker(kernel)
    registry.register("k", a)
    finish(dead)
    for ref in (b, dead):
        with pytest.raises((AlreadyRegistered, ActorDied)):
            registry.register("k" if ref is b else "other", ref)
    registry.unregister("k", a)

    assert (registry._table, b.mailbox.names or {}) == ({}, {})


def test_g21_a_lock_of_a_key_is_for_one_at_a_time(kernel: Kernel) -> None:
    registry, log = Registry(), Log()
    with Gate() as gate:
        first = Background(registry.lock, "k", gate.pass_)
        gate.reached()
        second = Background(registry.lock, "k", lambda: log.add("second"))
        registry.lock("other", lambda: log.add("other"))
        log.add("open")
    first.value()
    second.value()

    assert log == ["other", "open", "second"]


@pytest.mark.parametrize("how", ["raises", "dies"])
def test_g21_a_lock_is_free_when_its_holder_raises_or_dies(kernel: Kernel, how: str) -> None:
    registry, ref = Registry(), worker(kernel, cls=Locks)
    with Gate() as gate:
        ref.cast(Locks.lock, registry, gate)  # type: ignore[arg-type]
        gate.reached()
        if how == "dies":
            ref.fence()
        else:
            gate.open()

        assert registry.lock("k", lambda: "free") == "free"
    wait_until(lambda: kernel.zombies == 0)


class Locks(Worker):
    """Raises in a lock."""

    def lock(self, registry: Registry, gate: Gate) -> None:
        def fail() -> None:
            gate.pass_()
            raise BOOM

        registry.lock("k", fail)


def test_g22_a_registry_keeps_facts_about_itself() -> None:
    registry = Registry()
    with pytest.raises(NotRegistered):
        registry.meta("colour")
    registry.put_meta("colour", "red")

    assert {"before": "error", "after": ["ok", registry.meta("colour")]} == recorded("G22")
