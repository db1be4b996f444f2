"""The registry against a model: a list of entries, in which the dead hold nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from supervisors.errors import ActorDied, AlreadyRegistered, NotRegistered, SpecError
from supervisors.exits import Shutdown
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registered, Registry, Unregistered
from tests.supervisors.actors import KINDS, Counter

KEYS = st.sampled_from(["a", "b", 1, 1.0, True, (1, "a"), (1.0, "a")])
VALUES = st.integers(0, 3)
ENDS: list[Callable[[Ref[Any]], object]] = [
    lambda ref: ref.fence(),
    lambda ref: ref.stop(),
    lambda ref: ref.exit(Shutdown()),
    lambda ref: ref.cast(Counter.crash, SystemExit(1)),
]


class Model(RuleBasedStateMachine):
    """One registry; its entries as `(key, ref, value)` in the order in which they came. Equal keys look equal."""

    refs = Bundle("refs")
    unique = True

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel()
        self.news: list[Any] = []
        self.registry = Registry("unique" if self.unique else "duplicate", listeners=[self.news.append])
        self.entries: list[tuple[Any, Ref[Any], int]] = []
        self.told: list[Any] = []

    def teardown(self) -> None:
        self.kernel.close(2.0)

    def held(self, key: Any) -> list[tuple[Ref[Any], int]]:
        return [(ref, value) for each, ref, value in self.entries if repr(each) == repr(key)]

    def drop(self, gone: Callable[[Any, Ref[Any], int], bool]) -> None:
        self.told += [
            Unregistered(self.registry, key, ref) for key, ref, value in self.entries if gone(key, ref, value)
        ]
        self.entries = [entry for entry in self.entries if not gone(*entry)]

    @rule(target=refs, cls=st.sampled_from(KINDS))
    def spawn(self, cls: type[Counter]) -> Ref[Any]:
        return self.kernel.spawn(cls)

    @rule(key=KEYS, ref=refs, value=VALUES)
    def register(self, key: Any, ref: Ref[Any], value: int) -> None:
        holders = self.held(key)
        if self.unique and holders:
            with pytest.raises(AlreadyRegistered) as refused:
                self.registry.register(key, ref, value)
            assert refused.value.ref is holders[0][0]
        elif not ref.is_alive():
            with pytest.raises(ActorDied):
                self.registry.register(key, ref, value)
            self.told += [Registered(self.registry, key, ref, value), Unregistered(self.registry, key, ref)]
        else:
            self.registry.register(key, ref, value)
            self.entries.append((key, ref, value))
            self.told.append(Registered(self.registry, key, ref, value))

    @rule(key=KEYS, ref=refs)
    def unregister(self, key: Any, ref: Ref[Any]) -> None:
        self.registry.unregister(key, ref)
        self.drop(lambda each, holder, _: repr(each) == repr(key) and holder is ref)

    @rule(key=KEYS, ref=refs, least=VALUES)
    def unregister_match(self, key: Any, ref: Ref[Any], least: int) -> None:
        self.registry.unregister_match(key, ref, lambda value: value >= least)
        self.drop(lambda each, holder, value: repr(each) == repr(key) and holder is ref and value >= least)

    @rule(key=KEYS, ref=refs)
    def update_value(self, key: Any, ref: Ref[Any]) -> None:
        holders = self.held(key)
        if not self.unique:
            with pytest.raises(SpecError):
                self.registry.update_value(key, ref, lambda value: value + 1)
        elif ref not in [holder for holder, _ in holders]:
            with pytest.raises(NotRegistered):
                self.registry.update_value(key, ref, lambda value: value + 1)
        else:
            new, old = self.registry.update_value(key, ref, lambda value: value + 1)
            assert (new, holders) == (old + 1, [(ref, old)])
            self.entries = [
                (each, holder, new if repr(each) == repr(key) else value) for each, holder, value in self.entries
            ]

    @rule(ref=refs, end=st.sampled_from(ENDS))
    def die(self, ref: Ref[Any], end: Callable[[Ref[Any]], object]) -> None:
        down = ref.down()
        end(ref)
        down.get(5)
        self.drop(lambda _, holder, __: holder is ref)

    @rule(key=KEYS)
    def look(self, key: Any) -> None:
        holders = self.held(key)
        assert self.registry.lookup(key) == holders
        assert self.registry.whereis(key) is (holders[0][0] if holders else None)
        assert self.registry.match(key, lambda value: value > 1) == [each for each in holders if each[1] > 1]
        seen: list[Any] = []
        self.registry.dispatch(key, seen.extend)
        assert seen == holders

    @rule(ref=refs)
    def look_at_one(self, ref: Ref[Any]) -> None:
        expected = [repr(key) for key, holder, _ in self.entries if holder is ref]
        assert sorted(map(repr, self.registry.keys(ref))) == sorted(expected)

    @invariant()
    def all_entries_are_those_of_the_model(self) -> None:
        assert self.registry.count() == len(self.entries)
        found = {(repr(key), ref, value) for key, ref, value in self.registry.select(lambda *_: True)}
        assert found == {(repr(key), ref, value) for key, ref, value in self.entries}

    @invariant()
    def nothing_is_kept_of_the_dead(self) -> None:
        assert sum(map(len, self.registry._table.values())) == len(self.entries)

    @invariant()
    def listeners_heard_of_each_change_once(self) -> None:
        assert sorted(map(repr, self.news)) == sorted(map(repr, self.told))


class DuplicateModel(Model):
    unique = False


TestUnique = Model.TestCase
TestUnique.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestDuplicate = DuplicateModel.TestCase
TestDuplicate.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
