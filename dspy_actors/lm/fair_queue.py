"""`FairQueue`: whose turn it is, where many wait: classes by weight, in a class tenants by weight, then as they came.

Pure, not locked. This is start-time fair queueing, once between the classes and again between a class's tenants. Each
has a tag: what it has taken so far, over its weight. Whoever's tag is least goes next and moves it on by what is taken;
equal tags go by urgency. Who begins to wait starts at the tag of whoever was served last, so that nobody saves up turns
by staying away. Tags of those who wait differ by one call each at most, whatever the load: so shares are kept to
within one call, and under a flood of the most urgent the others still go on at their share.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from dspy_actors.envelope import Priority
from dspy_actors.lm.fairness import Fairness

T = TypeVar("T")

SWEEP_AT = 64
"""So many who left, or tenants that wait no more, are remembered at least before they are swept out."""


class _Tenant(Generic[T]):
    __slots__ = ("listed", "places", "tag", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.tag = 0.0
        self.places: deque[T] = deque()
        self.listed = False  # whether it is in its class's `order`


class _Class(Generic[T]):
    """One class: its tenants, and in a heap those that wait. An entry behind its tenant's tag is put right in time."""

    __slots__ = ("gone", "numbers", "order", "served", "tag", "tenants", "weight", "weights")

    def __init__(self, weight: float, fairness: Fairness, gone: Callable[[T], bool]) -> None:
        self.weight = weight
        self.weights = fairness.weights
        self.gone = gone
        self.tag = 0.0
        self.served = 0.0  # the tag of the tenant served last
        self.tenants: dict[str, _Tenant[T]] = {}
        self.order: list[tuple[float, int, _Tenant[T]]] = []
        self.numbers = 0

    def first(self) -> _Tenant[T] | None:
        """The tenant whose turn it is; its first place is one that somebody still waits at."""
        order = self.order
        while order:
            tag, _, tenant = order[0]
            places = tenant.places
            while places and self.gone(places[0]):
                places.popleft()
            if not places:
                heapq.heappop(order)
                tenant.listed = False
            elif tag < tenant.tag:
                heapq.heapreplace(order, self._entry(tenant))
            else:
                return tenant
        return None

    def push(self, place: T, name: str) -> None:
        tenant = self.tenants.get(name)
        if tenant is None:
            self._forget_idle()
            tenant = self.tenants[name] = _Tenant(self.weights.get(name, 1.0))
        while tenant.places and self.gone(tenant.places[0]):
            tenant.places.popleft()
        if not tenant.places:
            tenant.tag = max(tenant.tag, self.served)
        tenant.places.append(place)
        if not tenant.listed:
            tenant.listed = True
            heapq.heappush(self.order, self._entry(tenant))

    def take(self, tenant: _Tenant[T], cost: float) -> None:
        """Take the first place of `tenant`, whose turn it is."""
        tenant.places.popleft()
        self.served = max(self.served, tenant.tag)
        tenant.tag += cost / tenant.weight  # its heap entry is now behind: `first` puts it right

    def sweep(self) -> int:
        """Forget whoever has left, and tenants of whom nobody waits any more; how many still do."""
        waiting = 0
        for tenant in self.tenants.values():
            tenant.places = deque(place for place in tenant.places if not self.gone(place))
            tenant.listed = bool(tenant.places)
            waiting += len(tenant.places)
        self.order = [self._entry(tenant) for tenant in self.tenants.values() if tenant.listed]
        heapq.heapify(self.order)
        self._forget_idle()
        return waiting

    def _entry(self, tenant: _Tenant[T]) -> tuple[float, int, _Tenant[T]]:
        self.numbers += 1
        return tenant.tag, self.numbers, tenant

    def _forget_idle(self) -> None:
        """Forget tenants that wait no more, where they are the larger part: it forgives each one call at most."""
        if len(self.tenants) >= SWEEP_AT + 2 * len(self.order):
            self.tenants = {name: each for name, each in self.tenants.items() if each.listed}


class FairQueue(Generic[T]):
    """Places in the order in which they are served. `gone` tells of a place whether nobody waits at it any more.

    Whoever leaves need not say so, is skipped and has paid nothing; `left` lets the queue forget them sooner.
    """

    __slots__ = ("_classes", "_fairness", "_gone", "_interactive", "_length", "_next", "_served")

    def __init__(self, fairness: Fairness, gone: Callable[[T], bool]) -> None:
        self._fairness = fairness
        self._gone = gone
        self.clear()

    def clear(self) -> None:
        """Forget everybody, and what they have taken."""
        weights = self._fairness.class_weights
        self._classes: dict[Priority, _Class[T]] = {
            name: _Class(weight, self._fairness, self._gone) for name, weight in weights.items()
        }
        self._interactive = self._classes["interactive"]
        self._served = 0.0  # the tag of the class served last
        self._length = 0
        self._next: tuple[_Class[T], _Tenant[T]] | None = None

    def push(self, place: T, priority: Priority, tenant: str) -> None:
        """Stand in line."""
        own = self._classes[priority]
        if own.first() is None:
            own.tag = max(own.tag, self._served)
        own.push(place, tenant)
        self._length += 1

    def first(self) -> T | None:
        """Whoever's turn it is; `None` where nobody waits."""
        best: _Class[T] | None = None
        chosen: _Tenant[T] | None = None
        for each in self._classes.values():
            if (best is None or each.tag < best.tag) and (tenant := each.first()) is not None:
                best, chosen = each, tenant
        if best is None or chosen is None:
            self._next = None
            return None
        self._next = best, chosen
        return chosen.places[0]

    @property
    def may_use_reserve(self) -> bool:
        """Whether the one whom `first` gave may have what is set aside for interactive calls.

        Those may, and so may a class to which interactive calls have left less than its share: else a flow of them
        that never has to wait, and never lets the limit recover, would keep the others waiting for ever.
        """
        assert self._next is not None
        own, _ = self._next
        return own is self._interactive or own.tag < self._interactive.tag

    def take(self, cost: float) -> None:
        """Serve the one whom `first` gave, who takes `cost`."""
        assert self._next is not None
        own, tenant = self._next
        own.take(tenant, cost)
        self._served = max(self._served, own.tag)
        own.tag += cost / own.weight
        self._length -= 1
        self._next = None

    def give_back(self, cost: float, priority: Priority, tenant: str) -> None:
        """Whoever was served had left at that moment and took nothing."""
        own = self._classes[priority]
        own.tag -= cost / own.weight
        found = own.tenants.get(tenant)
        if found is not None:
            found.tag -= cost / found.weight

    def left(self, waiting: int) -> None:
        """Somebody left, and `waiting` are still there: sweep the others out where they are the larger part."""
        if self._length <= SWEEP_AT + 2 * waiting:
            return
        self._length = 0
        for own in self._classes.values():
            self._length += own.sweep()
