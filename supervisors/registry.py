"""Names: a key stands for whoever holds it now.

A table behind a lock, not an actor, so it cannot die. Names are dropped before a death is announced, and a
look-up never gives a dead actor. Entries are compared by incarnation: an old one can neither take nor delete the
name of its successor. Keys are strict: 1, 1.0 and True are three keys.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from threading import Lock
from typing import Any, Literal

from supervisors import steps
from supervisors.current import CURRENT
from supervisors.errors import ActorDied, AlreadyRegistered, Fenced, NotRegistered, SpecError
from supervisors.exits import NoProc
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.via import Via

_NAMES = Lock()  # guards the making of a life's table of names


class Entry:
    """One registration."""

    __slots__ = ("key", "ref", "registry", "value")

    def __init__(self, registry: Registry, key: Hashable, ref: Ref[Any], value: object) -> None:
        self.registry, self.key, self.ref, self.value = registry, key, ref, value

    def drop(self) -> None:
        """Remove this very entry, and no successor's."""
        self.registry._remove(self)


class Registry:
    """Keys to actors. `keys="unique"`: one holder a key; `"duplicate"`: many, in order of registration."""

    def __init__(self, keys: Literal["unique", "duplicate"] = "unique") -> None:
        if keys not in ("unique", "duplicate"):
            raise SpecError("keys", keys, "'unique' or 'duplicate'")
        self.unique = keys == "unique"
        self._lock = Lock()
        self._table: dict[tuple[type, Hashable], tuple[Entry, ...]] = {}
        self._arrivals: dict[tuple[type, Hashable], list[Reply[Ref[Any]]]] = {}

    def register(self, key: Hashable, ref: Ref[Any], value: object = None) -> None:
        """Let `ref` hold `key` until it dies. Raises AlreadyRegistered (also for its own second time), ActorDied
        for a dead one, Fenced for a fenced caller.
        """
        me = CURRENT.get()
        if me is not None and me.fenced:
            raise Fenced(me.name)
        entry = Entry(self, key, ref, value)
        slot = (type(key), key)
        with self._lock:
            held = tuple(each for each in self._table.get(slot, ()) if each.ref.is_alive())
            if self.unique and held:
                raise AlreadyRegistered(key, held[0].ref)
            self._table[slot] = (*held, entry)
            arrivals = self._arrivals.pop(slot, ())
        life = ref.mailbox
        with _NAMES:
            if life.names is None:
                life.names = {}
        if steps.hook is not None:
            steps.hook("names:adding", life)
        life.names[entry] = None
        if life.dead:  # look again: its death may have missed this entry
            entry.drop()
            raise ActorDied(ref.name, NoProc(), False)
        for arrival in arrivals:
            arrival.set(ref)

    def unregister(self, key: Hashable, ref: Ref[Any]) -> None:
        """Drop what `ref` holds under `key`; nothing else, and no error if that is nothing."""
        for entry in self._table.get((type(key), key), ()):
            if entry.ref is ref:
                entry.drop()
                if ref.mailbox.names is not None:
                    ref.mailbox.names.pop(entry, None)

    def lookup(self, key: Hashable) -> list[tuple[Ref[Any], object]]:
        """The living holders and their values."""
        return [(entry.ref, entry.value) for entry in self._table.get((type(key), key), ()) if entry.ref.is_alive()]

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The living holder (of a duplicate key: the first), or None."""
        for entry in self._table.get((type(key), key), ()):
            if entry.ref.is_alive():
                return entry.ref
        return None

    def keys(self, ref: Ref[Any] | None = None) -> list[Hashable]:
        """The keys that have a living holder; of one actor, its own."""
        return [entry.key for entry in self._entries() if ref is None or entry.ref is ref]

    def select(self, wanted: Callable[[Any, Ref[Any], Any], bool]) -> list[tuple[Hashable, Ref[Any], object]]:
        """The entries for which `wanted(key, ref, value)` is true."""
        return [(each.key, each.ref, each.value) for each in self._entries() if wanted(each.key, each.ref, each.value)]

    def update_value(self, key: Hashable, ref: Ref[Any], update: Callable[[Any], object]) -> tuple[object, object]:
        """Replace the value `ref` holds under a unique key: (new, old). Raises NotRegistered if it holds none."""
        for entry in self._table.get((type(key), key), ()):
            if entry.ref is ref and ref.is_alive():
                with self._lock:
                    old = entry.value
                    entry.value = new = update(old)
                return new, old
        raise NotRegistered(key)

    def dispatch(self, key: Hashable, fn: Callable[[list[tuple[Ref[Any], object]]], object]) -> None:
        """Call `fn` once with the living holders, here; not at all where there are none."""
        entries = self.lookup(key)
        if entries:
            fn(entries)

    def via(self, key: Hashable, value: object = None) -> Via:
        """An address: whoever holds `key` when it is used. Start an actor with it as `name` to give it the key."""
        if not self.unique:
            raise SpecError("registry", "duplicate", "a registry with unique keys, for a name")
        return Via(self, key, value)

    def arrival(self, key: Hashable) -> Reply[Ref[Any]]:
        """Settles with the holder of `key`: the living one, or the next to come. Cancel it when it is not needed."""
        slot = (type(key), key)
        reply: Reply[Ref[Any]] = Reply()
        with self._lock:
            self._arrivals.setdefault(slot, []).append(reply)
        reply.add_done_callback(lambda done: self._forget_arrival(slot, done))
        holder = self.whereis(key)
        if holder is not None:
            reply.set(holder)
        return reply

    def _forget_arrival(self, slot: tuple[type, Hashable], reply: Reply[Ref[Any]]) -> None:
        with self._lock:
            left = [each for each in self._arrivals.pop(slot, ()) if each is not reply]
            if left:
                self._arrivals[slot] = left

    def _entries(self) -> Iterator[Entry]:
        for entries in list(self._table.values()):
            for entry in entries:
                if entry.ref.is_alive():
                    yield entry

    def _remove(self, entry: Entry) -> None:
        slot = (type(entry.key), entry.key)
        with self._lock:
            left = tuple(each for each in self._table.get(slot, ()) if each is not entry)
            if left:
                self._table[slot] = left
            else:
                self._table.pop(slot, None)
