"""What a supervisor knows of one child, and how it tells it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from supervisors.brief import brief
from supervisors.cell import Ignore
from supervisors.errors import SpecError, StartFailed
from supervisors.exits import Exit, Killed, Normal, Shutdown
from supervisors.ref import Ref
from supervisors.spec import (
    BRUTAL_KILL,
    AutoShutdown,
    ChildId,
    ChildLike,
    ChildSpec,
    ChildType,
    Restart,
    check_childspecs,
)

State: TypeAlias = Literal["running", "stopped", "restarting", "waiting"]
"""`restarting`: a start failed and is tried again at once; `waiting`: it is tried again after a backoff."""


class Child(NamedTuple):
    """One line of `which_children`."""

    id: ChildId
    ref: Ref[Any] | Literal["restarting", "waiting"] | None
    """The running child; None if it is not running."""
    type: ChildType


class Counts(NamedTuple):
    """The answer of `count_children`."""

    specs: int
    active: int
    """Children which are running now."""
    supervisors: int
    workers: int
    """Children of that type, running or not."""


class Entry:
    """What a supervisor knows of one child: its spec and its present life."""

    __slots__ = ("attempts", "info", "ref", "restarts", "retry", "spec", "started_at", "state", "timer")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self.ref: Ref[Any] | None = None
        self.info: tuple[Any, ...] = ()
        """What its start function gave beside the ref, if anything."""
        self.restarts = 0
        self.attempts = 0
        """Restarts since it last lived long enough to count as healthy."""
        self.started_at = 0.0
        self.retry = 0
        """Number of the one retry that is due; any other is stale."""
        self.timer: Any = None

    @property
    def is_unwanted(self) -> bool:
        """Whether who is entitled to has asked for its end: that it was fenced is no news then."""
        return False

    @property
    def is_retrying(self) -> bool:
        return self.state == "restarting" or self.state == "waiting"

    @property
    def is_active(self) -> bool:
        """Running, or about to be."""
        return self.ref is not None or self.is_retrying

    @property
    def kind(self) -> ChildType:
        return kind_of(self.spec)

    def is_filled_after(self, exit: Exit) -> bool:
        """Whether a successor follows a life that ends with `exit` by itself. Any thread; asked while it dies.

        A start that fails is followed by another only if it was a restart, and not if `init` gave IGNORE.
        """
        is_tried_again = self.attempts > 0 and not isinstance(exit, Normal)
        return (self.state == "running" or is_tried_again) and self.spec.restarts_after(exit)

    def told(self, started: Ref[Any] | Ignore) -> Any:
        """What `start_child` answers: the ref, or (ref, info) where the start function gave that."""
        return (started, *self.info) if self.info else started

    def line(self) -> Child:
        state = self.state
        ref = state if state == "restarting" or state == "waiting" else self.ref
        return Child(self.spec.id, ref, self.kind)


class Coming:
    """In the place of the `Entry` of a life that is stopped to be started again, as its group is."""

    @staticmethod
    def is_filled_after(_: Exit) -> bool:
        return True


COMING = Coming()


def offender(spec: ChildSpec, ref: Ref[Any] | None) -> dict[str, Any]:
    """The child of `spec`, or its life `ref`, as a report names it."""
    shutdown = spec.shutdown if isinstance(spec.shutdown, int | float) else BRUTAL_KILL.value
    return {
        "id": spec.id if isinstance(spec.id, str | int) else brief(spec.id),
        "ref": None if ref is None else ref.name,
        "start": getattr(spec.start, "__qualname__", None) or brief(spec.start),
        "restart": spec.restart.value,
        "significant": spec.significant,
        "shutdown": "infinity" if shutdown == math.inf else shutdown,
        "type": kind_of(spec).value,
    }


def kind_of(spec: ChildSpec) -> ChildType:
    """The type of the children of `spec`, filled in when it was built."""
    return ChildType.SUPERVISOR if spec.type is ChildType.SUPERVISOR else ChildType.WORKER


def count(entries: Iterable[Entry]) -> Counts:
    """`entries` counted as `count_children` answers."""
    specs = active = supervisors = 0
    for entry in entries:
        specs += 1
        active += entry.ref is not None
        supervisors += entry.kind is ChildType.SUPERVISOR
    return Counts(specs, active, supervisors, specs - supervisors)


def is_expected(spec: ChildSpec, exit: Exit) -> bool:
    """Whether a child that was told to stop ended as it should; a permanent one has no business ending `Normal`."""
    if isinstance(exit, Normal):
        return spec.restart is not Restart.PERMANENT
    return isinstance(exit, Shutdown) or (isinstance(exit, Killed) and spec.shutdown is BRUTAL_KILL)


def spec_of(child: ChildLike, auto_shutdown: AutoShutdown = AutoShutdown.NEVER) -> ChildSpec:
    """The spec of what `start_child` was given. Raises `SpecError`, and `StartFailed` if its own code failed."""
    try:
        return check_childspecs([child], auto_shutdown=auto_shutdown)[0]
    except SpecError:
        raise
    except BaseException as error:  # a class's own `child_spec`, run in the supervisor: as guarded as a start
        raise StartFailed(getattr(child, "__name__", repr(type(child))), error) from error
