"""Names: a key stands for whoever holds it now.

A table behind a lock, not an actor, so it cannot die. Names are dropped before a death is announced, and a
look-up never gives a dead actor. Entries are compared by incarnation: an old one can neither take nor delete the
name of its successor. Keys are strict, also inside of tuples: 1, 1.0 and True are three keys.

The functions are those of Elixir's Registry. Where that takes match specifications, this takes functions that say
which entries are meant; where that speaks of the calling process, this is given the ref.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Literal, TypeAlias, TypeVar

from supervisors import steps
from supervisors.current import refuse_fenced
from supervisors.errors import ActorDied, AlreadyRegistered, NotRegistered, SpecError
from supervisors.exits import NoProc
from supervisors.keylock import KeyLocks
from supervisors.published_lock import PublishedLock, free_after_fork
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.via import PATIENCE, Slot, Via, strict

T = TypeVar("T")

logger = logging.getLogger("supervisors")

_NAMES = free_after_fork(Lock())  # guards the making of a life's table of names


@dataclass(frozen=True, slots=True)
class Registered:
    """`ref` holds `key` in `registry` from now on."""

    registry: Registry
    key: Hashable
    ref: Ref[Any]
    value: object


@dataclass(frozen=True, slots=True)
class Unregistered:
    """`ref` no longer holds `key` in `registry`: it gave it up, or it is dead."""

    registry: Registry
    key: Hashable
    ref: Ref[Any]


Listener: TypeAlias = Callable[[Registered | Unregistered], object] | Ref[Any]


class Entry:
    """One registration."""

    __slots__ = ("key", "ref", "registry", "slot", "value")

    def __init__(self, registry: Registry, key: Hashable, ref: Ref[Any], value: object) -> None:
        self.registry, self.key, self.ref, self.value = registry, key, ref, value
        self.slot = strict(key)

    def drop(self) -> None:
        """Remove this very entry, and no successor's."""
        self.registry._remove(self)


class Registry:
    """Keys to actors. `keys="unique"`: one holder a key; `"duplicate"`: many, in order of registration.

    `listeners` are told of every `Registered` and `Unregistered`: a ref gets it in `on_info`; a function is called
    in the thread in which it happens, must not block, and is logged and ignored when it raises.
    """

    def __init__(self, keys: Literal["unique", "duplicate"] = "unique", *, listeners: Iterable[Listener] = ()) -> None:
        if keys not in ("unique", "duplicate"):
            raise SpecError("keys", keys, "'unique' or 'duplicate'")
        self.unique = keys == "unique"
        self._lock = PublishedLock()
        self._table: dict[Slot, tuple[Entry, ...]] = {}
        self._arrivals: dict[Slot, list[Reply[Ref[Any]]]] = {}
        self._missed: dict[Slot, tuple[Ref[Any], float]] = {}  # who is about to have a successor, and until when
        self._listeners = tuple(listeners)
        self._meta: dict[Slot, object] = {}
        self._locks = KeyLocks()

    def register(self, key: Hashable, ref: Ref[Any], value: object = None) -> None:
        """Let `ref` hold `key` until it dies. Raises AlreadyRegistered (also for its own second time), ActorDied
        for a dead one, Fenced for a fenced caller.
        """
        refuse_fenced()
        entry = Entry(self, key, ref, value)
        slot = entry.slot
        with self._lock:
            held = self._table.get(slot, ())
            if held:
                held = tuple(each for each in held if each.ref.is_alive())
            if self.unique and held:
                raise AlreadyRegistered(key, held[0].ref)
            self._table[slot] = (*held, entry)
            if self._missed:
                self._missed.pop(slot, None)
        if self._listeners:
            self._announce(Registered(self, key, ref, value))  # before a death could take it back
        life = ref.mailbox
        with _NAMES:
            if life.names is None:
                life.names = {}
        if steps.hook is not None:
            steps.hook("names:adding", life)
        life.names[entry] = None
        if life.dead:  # look again: its death may have missed this entry
            entry.drop()
            life.names.pop(entry, None)
            raise ActorDied(ref.name, NoProc(), False)
        if self._arrivals:
            with self._lock:
                arrivals = self._arrivals.pop(slot, ())
            for arrival in arrivals:  # they settle outside of the lock
                arrival.set(ref)

    def unregister(self, key: Hashable, ref: Ref[Any]) -> None:
        """Drop what `ref` holds under `key`; nothing else, and no error if that is nothing. Raises Fenced."""
        self.unregister_match(key, ref, _anything)

    def unregister_match(self, key: Hashable, ref: Ref[Any], wanted: Callable[[Any], bool]) -> None:
        """Drop what `ref` holds under `key` with a value for which `wanted(value)` is true. Raises Fenced."""
        refuse_fenced()
        for entry in self._table.get(strict(key), ()):
            if entry.ref is ref and wanted(entry.value):
                entry.drop()
                if ref.mailbox.names is not None:
                    ref.mailbox.names.pop(entry, None)

    def lookup(self, key: Hashable) -> list[tuple[Ref[Any], object]]:
        """The living holders and their values."""
        return [(entry.ref, entry.value) for entry in self._table.get(strict(key), ()) if entry.ref.is_alive()]

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The living holder (of a duplicate key: the first), or None."""
        for entry in self._table.get(strict(key), ()):
            if entry.ref.is_alive():
                return entry.ref
        return None

    def keys(self, ref: Ref[Any] | None = None) -> list[Hashable]:
        """The keys that have a living holder; of one actor, its own."""
        return [entry.key for entry in self._entries() if ref is None or entry.ref is ref]

    def values(self, key: Hashable, ref: Ref[Any]) -> list[object]:
        """The values that `ref` holds under `key`."""
        return [value for holder, value in self.lookup(key) if holder is ref]

    def match(self, key: Hashable, wanted: Callable[[Any], bool]) -> list[tuple[Ref[Any], object]]:
        """The living holders of `key` with a value for which `wanted(value)` is true."""
        return [(ref, value) for ref, value in self.lookup(key) if wanted(value)]

    def select(self, wanted: Callable[[Any, Ref[Any], Any], bool]) -> list[tuple[Hashable, Ref[Any], object]]:
        """The entries for which `wanted(key, ref, value)` is true."""
        return [(each.key, each.ref, each.value) for each in self._entries() if wanted(each.key, each.ref, each.value)]

    def count(self) -> int:
        """How many entries have a living holder."""
        return sum(1 for _ in self._entries())

    def count_match(self, key: Hashable, wanted: Callable[[Any], bool]) -> int:
        """How many entries `match` gives."""
        return len(self.match(key, wanted))

    def count_select(self, wanted: Callable[[Any, Ref[Any], Any], bool]) -> int:
        """How many entries `select` gives."""
        return len(self.select(wanted))

    def update_value(self, key: Hashable, ref: Ref[Any], update: Callable[[Any], object]) -> tuple[object, object]:
        """Replace the value `ref` holds under a unique key by `update(value)`: (new, old).

        `update` is called again if another thread was faster. Raises NotRegistered if `ref` does not hold the key,
        SpecError for duplicate keys, Fenced.
        """
        refuse_fenced()
        self._need_unique("a registry with unique keys, to replace a value")
        entry = next((each for each in self._table.get(strict(key), ()) if each.ref is ref), None)
        while entry is not None and ref.is_alive():
            old = entry.value
            new = update(old)
            with self._lock:
                if entry.value is old:
                    entry.value = new
                    return new, old
        raise NotRegistered(key)

    # what is kept beside the entries

    def put_meta(self, key: Hashable, value: object) -> None:
        """Keep `value` with the registry itself. Raises Fenced."""
        refuse_fenced()
        self._meta[strict(key)] = value

    def meta(self, key: Hashable) -> object:
        """What `put_meta` kept. Raises NotRegistered if that is nothing."""
        try:
            return self._meta[strict(key)]
        except KeyError:
            raise NotRegistered(key) from None

    def delete_meta(self, key: Hashable) -> None:
        """Forget what `put_meta` kept, if anything. Raises Fenced."""
        refuse_fenced()
        self._meta.pop(strict(key), None)

    def lock(self, key: Hashable, fn: Callable[[], T], timeout: float | None = None) -> T:
        """`fn()`, while nobody else is in a `lock` of the same key. Blocks until it is one's turn.

        Freed when `fn` returns or raises, or the actor in whose code it runs is dead, a fenced one too. `timeout` in
        seconds: 5, or what is left of the caller's deadline. Raises CallTimeout, and CallCycle when the caller has
        the lock already. The lock is apart from the entries: whoever does not ask for it is not held up.
        """
        with self._locks.held(strict(key), f"the lock of {key!r}", timeout):
            return fn()

    def dispatch(self, key: Hashable, fn: Callable[[list[tuple[Ref[Any], object]]], object]) -> None:
        """Call `fn` once with the living holders, here; not at all where there are none."""
        entries = self.lookup(key)
        if entries:
            fn(entries)

    def via(self, key: Hashable, value: object = None) -> Via:
        """An address: whoever holds `key` when it is used. Start an actor with it as `name` to give it the key."""
        self._need_unique("a registry with unique keys, for a name")
        return Via(self, key, value)

    def missed(self, key: Hashable) -> Ref[Any] | None:
        """The holder that died less than a second ago and is about to have a successor: its supervisor starts it again,
        and there is none yet. None after the system has ended.
        """
        slot = strict(key)
        with self._lock:
            for entry in self._table.get(slot, ()):  # it has not given its key up yet
                if _has_successor(entry.ref):
                    return entry.ref
            ref, until = self._missed.get(slot, (None, 0.0))
        if ref is None or ref.mailbox.home.refuse is not None or ref.mailbox.home.clock.now() >= until:
            return None
        return ref

    def arrival(self, key: Hashable) -> Reply[Ref[Any]]:
        """Settles with the holder of `key`: the living one, or the next to come. Cancel it when it is not needed."""
        reply: Reply[Ref[Any]] = Reply()
        slot = strict(key)
        with self._lock:  # in which `register` enters a holder, before it looks for those who wait
            holder = self.whereis(key)
            if holder is None:
                self._arrivals.setdefault(slot, []).append(reply)
        if holder is not None:
            reply.set(holder)
        else:
            reply.on_settled(partial(self._forget_arrival, slot, reply))
        return reply

    def _forget_arrival(self, slot: Slot, reply: Reply[Ref[Any]]) -> None:
        with self._lock:
            left = [each for each in self._arrivals.pop(slot, ()) if each is not reply]
            if left:
                self._arrivals[slot] = left

    def _entries(self) -> Iterator[Entry]:
        for entries in list(self._table.values()):
            for entry in entries:
                if entry.ref.is_alive():
                    yield entry

    def _need_unique(self, allowed: str) -> None:
        if not self.unique:
            raise SpecError("registry", "duplicate", allowed)

    def _announce(self, event: Registered | Unregistered) -> None:
        for listener in self._listeners:
            if isinstance(listener, Ref):
                listener.mailbox.post(("on_info", (event,), None, None))
                continue
            try:
                listener(event)
            except BaseException:  # whoever registers, or dies, must not bear what a listener does
                logger.exception("a listener of a registry raised at %r", event)

    def _remove(self, entry: Entry) -> None:
        slot = entry.slot
        with self._lock:
            held = self._table.get(slot, ())
            left = () if held == (entry,) else tuple(each for each in held if each is not entry)
            if left:
                self._table[slot] = left
            else:
                self._table.pop(slot, None)
                if self.unique and entry in held and _has_successor(entry.ref):
                    self._miss(slot, entry.ref)
        if self._listeners and len(left) < len(held):
            self._announce(Unregistered(self, entry.key, entry.ref))

    def _miss(self, slot: Slot, ref: Ref[Any]) -> None:
        """With the lock. Those whose time is over are forgotten here, the oldest first, so that they cannot pile up."""
        missed = self._missed
        missed.pop(slot, None)
        missed[slot] = ref, ref.mailbox.home.clock.now() + PATIENCE
        for each in list(islice(missed, 2)):
            dead, until = missed[each]
            if dead.mailbox.home.clock.now() >= until:
                missed.pop(each, None)


def _has_successor(ref: Ref[Any]) -> bool:
    life = ref.mailbox
    seat = life.seat
    return life.exit is not None and seat is not None and bool(seat.is_filled_after(life.exit))


def _anything(_: object) -> bool:
    return True
