"""`Shelf`: what is kept for inputs, by scope and hash, read without a lock; the one unused longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from dspy_actors.quarantine.names import Scope

T = TypeVar("T")


class Shelf(Generic[T]):
    """At most `room` values. Whoever changes it holds a lock of its owner's; reading needs none.

    `scopes` is published: a scope is in it exactly while something is kept for it.
    """

    __slots__ = ("_order", "_room", "scopes")

    def __init__(self, room: int) -> None:
        self._room = room
        self.scopes: dict[Scope, dict[bytes, T]] = {}
        self._order: OrderedDict[tuple[Scope, bytes], None] = OrderedDict()

    def get(self, scope: Scope, name: bytes) -> T | None:
        """What is kept for one input. From any thread, without a lock."""
        found = self.scopes.get(scope)
        return None if found is None else found.get(name)

    def put(self, scope: Scope, name: bytes, value: T) -> list[T]:
        """Keep a value, which becomes the most recently used; what had to go for it."""
        self.scopes.setdefault(scope, {})[name] = value
        self._order[scope, name] = None
        self._order.move_to_end((scope, name))
        gone = []
        while len(self._order) > self._room:
            old = self.pop(*next(iter(self._order)))
            assert old is not None
            gone.append(old)
        return gone

    def touch(self, scope: Scope, name: bytes) -> None:
        """Somebody asked for it."""
        self._order.move_to_end((scope, name))

    def pop(self, scope: Scope, name: bytes) -> T | None:
        """Take one value out."""
        if (scope, name) not in self._order:
            return None
        del self._order[scope, name]
        found = self.scopes[scope]
        value = found.pop(name)
        if not found:
            del self.scopes[scope]
        return value

    def items(self) -> Iterator[tuple[Scope, bytes, T]]:
        """Everything, unused longest first. Under the owner's lock."""
        for scope, name in self._order:
            yield scope, name, self.scopes[scope][name]

    def __len__(self) -> int:
        return len(self._order)
