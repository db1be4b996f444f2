"""The partition supervisor: one spec, started several times, and a key that says which of them is meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from supervisors.answering import answer
from supervisors.child import Entry
from supervisors.errors import SpecError
from supervisors.hashing import stable_hash
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply
from supervisors.spec import AutoShutdown, ChildLike, ChildSpec, Restart, child_spec
from supervisors.strategies import Strategy
from supervisors.supervisor import Supervisor
from supervisors.via import Via

WithArguments: TypeAlias = Callable[[tuple[Any, ...], int], tuple[Any, ...] | list[Any]]
"""From the arguments of the spec and the number of a partition to the arguments of that partition."""


class PartitionSupervisor(Supervisor):
    """Starts one child for each partition, with the ids 0, 1, ...; a state that one actor would be a bottleneck for.

        system.start_child(ChildSpec("counters", PartitionSupervisor, (Counter,), name=system.via("counters")))
        PartitionSupervisor.via(system.via("counters"), user_id).call(Counter.add, 1)

    Whoever has the same key comes to the same partition. A partition that crashed comes back in its place, and who
    has its `via` need not know. The messages are those of `Supervisor`, and `resize`.
    """

    def init(  # type: ignore[override]
        self,
        child: ChildLike,
        *,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        """`partitions`: how many; left out, the number of processors. `with_arguments(args, number)` gives each
        partition arguments of its own. Raises `SpecError` before any child starts; else as `Supervisor`.
        """
        number = (os.cpu_count() or 1) if partitions is None else partitions
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise SpecError("partitions", partitions, "an int >= 1, or None for the number of processors")
        if with_arguments is not None and not callable(with_arguments):
            raise SpecError("with_arguments", with_arguments, "a function of the arguments and the partition's number")
        spec = child_spec(child)
        if spec.is_temporary:
            raise SpecError(
                "restart", spec.restart, f"{Restart.PERMANENT} or {Restart.TRANSIENT}: a place must be kept"
            )
        if spec.name is not None:
            raise SpecError("name", spec.name, "None: partitions are reached through their supervisor's name")
        self._routes = Routes(number)
        specs = [self._partition(spec, index, with_arguments) for index in range(number)]
        super().init(
            specs, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, auto_shutdown=auto_shutdown
        )

    def _partition(self, spec: ChildSpec, index: int, with_arguments: WithArguments | None) -> ChildSpec:
        args = spec.args if with_arguments is None else tuple(with_arguments(spec.args, index))
        return spec.override(id=index, args=args, name=Place(self._routes, index, f"{self.name}/{index}"))

    @staticmethod
    def via(supervisor: Ref[Any] | Via, key: Hashable) -> Via:
        """The address of the partition for `key` under a partition supervisor, or under a name that one holds.

        An int is the partition of that number modulo how many there are (of -1: partition 1), everything else goes
        by `stable_hash`. Resolved anew at each use; then a supervisor that is not there is ActorDied(NoProc), and
        one that was resized to nothing SpecError. Raises SpecError for a key that cannot be hashed by value.
        """
        if not isinstance(key, int):
            stable_hash(key)
        return Via(
            Router(supervisor), Partition(str(supervisor.label if isinstance(supervisor, Via) else supervisor), key)
        )

    @answer
    def resize(self, partitions: int) -> int:
        """From now on use only so many partitions, at most as many as there were at the start: the number before.

        Those beyond are stopped, the last one first, or started again. A key may come to another partition. With 0
        every use of a key raises SpecError. Raises SpecError, and StartFailed with as many as did come up.
        """
        most = self._routes.most
        if isinstance(partitions, bool) or not isinstance(partitions, int) or not 0 <= partitions <= most:
            raise SpecError("partitions", partitions, f"an int from 0 to {most}, as many as there were at the start")
        before = self._routes.active
        self._routes.active = min(before, partitions)  # nobody is sent to one that is about to go
        for index in reversed(range(partitions, before)):
            self._children.stop(self._entry(index))
        for index in range(before, partitions):
            self._start_again(self._entry(index))
            self._routes.active += 1
        return before

    @answer
    def partitions(self) -> int:
        """How many partitions are in use."""
        return self._routes.active

    def _start_again(self, entry: Entry) -> None:
        if not entry.is_active:  # a group restart may have brought it back
            self._children.start_on_request(entry)


class Routes(Registry):
    """Which actor is at which place; read without a message."""

    def __init__(self, active: int) -> None:
        super().__init__()
        self.most = active
        self.active = active
        """How many partitions are in use; only the supervisor writes it."""

    def place_of(self, key: Hashable) -> int:
        """The partition of `key`. Raises SpecError where there is none."""
        if self.active == 0:
            raise SpecError("partitions", 0, "at least 1 to find one for a key; see PartitionSupervisor.resize")
        return (abs(key) if isinstance(key, int) else stable_hash(key)) % self.active


class Place:
    """The name of one partition, for its spec."""

    def __init__(self, routes: Routes, index: int, label: str) -> None:
        self._routes = routes
        self._index = index
        self.label = label

    def claim(self, ref: Any) -> None:
        """Register `ref` at this place. Raises AlreadyRegistered."""
        self._routes.register(self._index, ref)


@dataclass(frozen=True, slots=True)
class Partition:
    """What a partition is addressed by: `supervisor` is for messages, `key` decides."""

    supervisor: str
    key: Hashable

    def __str__(self) -> str:
        return f"{self.supervisor}[{self.key!r}]"


class Router:
    """The partitions under whoever is the supervisor when a key is used; what a `Via` needs of a registry."""

    def __init__(self, supervisor: Ref[Any] | Via) -> None:
        self._supervisor = supervisor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Router) and other._supervisor == self._supervisor

    def __hash__(self) -> int:
        return hash(self._supervisor)

    def whereis(self, key: Hashable) -> Ref[Any] | None:
        """The living partition for `key`, None while it is not up or there is no supervisor."""
        routes = self._routes()
        return None if routes is None else routes.whereis(routes.place_of(_key(key)))

    def missed(self, key: Hashable) -> Ref[Any] | None:
        """The partition for `key` that has just died and comes back."""
        routes = self._routes()
        return None if routes is None else routes.missed(routes.place_of(_key(key)))

    def arrival(self, key: Hashable) -> Reply[Ref[Any]]:
        """Settles with the partition for `key`: the living one, or the next to come."""
        routes = self._routes()
        return Reply() if routes is None else routes.arrival(routes.place_of(_key(key)))

    def register(self, key: Hashable, ref: Ref[Any], value: object = None) -> None:
        """Partitions are started by their supervisor only. Raises SpecError."""
        raise SpecError("name", key, "a name of your own; a partition's place is taken by its supervisor's child")

    def _routes(self) -> Routes | None:
        ref = self._supervisor.whereis() if isinstance(self._supervisor, Via) else self._supervisor
        routes = getattr(ref.mailbox.actor, "_routes", None) if ref is not None else None
        return routes if isinstance(routes, Routes) else None


def _key(key: Hashable) -> Hashable:
    return key.key if isinstance(key, Partition) else key
