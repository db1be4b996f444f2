"""What to start and how: child specifications, checked when they are built, without side effects."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from supervisors.backoff import Backoff
from supervisors.errors import SpecError
from supervisors.exits import Exit, is_clean

logger = logging.getLogger("supervisors")

INFINITY: Final = math.inf
"""As a `shutdown` or a timeout: wait as long as it takes."""

ChildId: TypeAlias = Hashable
"""Names a child inside its supervisor; anything hashable, mostly a str."""


class Restart(Enum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"
    """Always, whatever the exit."""
    TRANSIENT = "transient"
    """Only after an exit that is not clean (neither `Normal` nor `Shutdown`)."""
    TEMPORARY = "temporary"
    """Never; its spec is forgotten when it ends."""


class ChildType(Enum):
    """Whether a child is itself a supervisor; decides its default `shutdown` and how it is counted."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class AutoShutdown(Enum):
    """Whether a supervisor ends by itself when its significant children have ended."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class BrutalKill(Enum):
    """The type of `BRUTAL_KILL`."""

    BRUTAL_KILL = "brutal_kill"


BRUTAL_KILL: Final = BrutalKill.BRUTAL_KILL
"""As a `shutdown`: fence the child at once; its `terminate` does not run."""

_SPAWN_WORDS: Final = frozenset({"name", "parent", "start_timeout", "on_down"})
_NO_KWARGS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a supervisor starts, restarts and stops one child. Raises `SpecError` for a field that makes no sense.

    A spec is data and is run again at every restart with the same arguments, so it must not hold anything that
    belongs to one life of the child (a socket, a ref of an earlier incarnation).
    """

    id: ChildId
    start: Callable[..., Any]
    """An `Actor` class, spawned with `args` and `kwargs`; or `fn(kernel, *args, **kwargs) -> Ref`, which runs in the
    supervisor's thread and should spawn exactly one actor."""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: _NO_KWARGS, hash=False)
    restart: Restart = Restart.PERMANENT
    shutdown: float | BrutalKill | None = None
    """Seconds a stop may take before the child is fenced; `INFINITY`; `BRUTAL_KILL`. Left out: 5.0, and `INFINITY`
    for a supervisor, whose children need their own time."""
    type: ChildType | None = None
    """Left out: derived from the class in `start`; `WORKER` for a function."""
    significant: bool = False
    name: Any = None
    """A `Via` to be registered under (before `init` runs), or None."""
    start_timeout: float = 30.0
    """Seconds `init` may take; the supervisor waits that long."""
    backoff: Backoff | None = None
    """Beyond OTP: how long to wait before the second restart of a series, and the next ones."""
    budget_key: Hashable | None = None
    """Beyond OTP: children of one supervisor that share a key share a window of restarts of their own. When it is used
    up these children are given up (stopped, reported, kept as not running) and the supervisor lives. Only where each
    child stands alone: under ONE_FOR_ONE and in a DynamicSupervisor. None: the supervisor's own window, as in OTP."""

    def __post_init__(self) -> None:
        _check_start(self.start)
        fill = object.__setattr__
        if self.type is None:
            fill(self, "type", getattr(self.start, "child_type", ChildType.WORKER))
        if self.shutdown is None:
            fill(self, "shutdown", INFINITY if self.type is ChildType.SUPERVISOR else 5.0)
        fill(self, "args", _as_args(self.args))
        if self.kwargs is not _NO_KWARGS:
            fill(self, "kwargs", _as_kwargs(self.kwargs))
        self._check()

    def _check(self) -> None:
        _need(self.id is not None and _is_hashable(self.id), "id", self.id, "anything hashable but None")
        _need(isinstance(self.restart, Restart), "restart", self.restart, Restart)
        _need(isinstance(self.type, ChildType), "type", self.type, ChildType)
        fine = self.shutdown is BRUTAL_KILL or (_is_seconds(self.shutdown) and self.shutdown >= 0)  # type: ignore[operator]
        _need(fine, "shutdown", self.shutdown, "seconds >= 0, INFINITY or BRUTAL_KILL")
        fine = _is_seconds(self.start_timeout) and self.start_timeout > 0
        _need(fine, "start_timeout", self.start_timeout, "seconds > 0 or INFINITY")
        _need(isinstance(self.significant, bool), "significant", self.significant, "a bool")
        fine = not (self.significant and self.restart is Restart.PERMANENT)
        _need(fine, "significant", self.significant, "False for a PERMANENT child: it never ends for good")
        _need(self.backoff is None or isinstance(self.backoff, Backoff), "backoff", self.backoff, "a Backoff or None")
        _need(
            self.name is None or hasattr(self.name, "claim"),
            "name",
            self.name,
            'None or a Via: system.via("name") of a running system, else names.via("name") of your own Registry()',
        )
        _need(_is_hashable(self.budget_key), "budget_key", self.budget_key, "anything hashable, or None")
        if self.type is ChildType.SUPERVISOR and self.shutdown != INFINITY:
            logger.info("child %r is a supervisor and is fenced %s after it was told to stop", self.id, self.shutdown)

    def override(self, **changes: Any) -> ChildSpec:
        """A copy with some fields changed; raises `SpecError` for a field that does not exist."""
        known = tuple(f.name for f in dataclasses.fields(self))
        for name in changes:
            _need(name in known, name, changes[name], f"one of {', '.join(known)}")
        return dataclasses.replace(self, **changes)

    @property
    def is_temporary(self) -> bool:
        return self.restart is Restart.TEMPORARY

    def restarts_after(self, exit: Exit) -> bool:
        """Whether a child of this spec that ended with `exit` by itself is started again."""
        return self.restart is Restart.PERMANENT or (self.restart is Restart.TRANSIENT and not is_clean(exit))

    def without_arguments(self) -> ChildSpec:
        """A copy that holds no argument: all a supervisor keeps of a temporary child, which never starts again."""
        return self.override(args=(), kwargs=_NO_KWARGS)


ChildLike: TypeAlias = ChildSpec | Callable[..., Any]
"""What stands in a list of children: a spec, or an `Actor` class that is started without arguments."""


def child_spec(child: ChildLike, *args: Any, **overrides: Any) -> ChildSpec:
    """The spec of `child`, with `overrides` applied.

    `child` is a spec (then `args` must be empty), a class that brings its own `child_spec(*args)` classmethod, or any
    `Actor` class, whose spec is `ChildSpec(cls.__name__, cls, args)`. Raises `SpecError`, in the caller, before
    anything starts.
    """
    if isinstance(child, ChildSpec):
        _need(not args, "args", args, "nothing beside a ChildSpec: use override(args=...)")
        spec = child
    elif callable(own := getattr(child, "child_spec", None)):
        spec = own(*args)
        _need(isinstance(spec, ChildSpec), "child_spec", spec, f"a ChildSpec from {child!r}.child_spec()")
    else:
        _check_start(child)
        return ChildSpec(getattr(child, "__name__", repr(child)), child, args).override(**overrides)
    return spec.override(**overrides) if overrides else spec


def check_childspecs(
    children: Iterable[ChildLike], *, auto_shutdown: AutoShutdown = AutoShutdown.NEVER
) -> tuple[ChildSpec, ...]:
    """The specs of `children`, checked together; starts nothing.

    Raises `SpecError` for an id that occurs twice and for a significant child under a supervisor that never shuts
    down by itself.
    """
    _need(isinstance(children, Iterable), "children", children, "an iterable of ChildSpec or Actor classes")
    specs = tuple(child if isinstance(child, ChildSpec) else child_spec(child) for child in children)
    seen: set[ChildId] = set()
    for spec in specs:
        _need(spec.id not in seen, "id", spec.id, "ids that differ from each other")
        seen.add(spec.id)
        check_significant(spec, auto_shutdown)
    return specs


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise `SpecError` if `spec` is significant where nothing would follow from it."""
    fine = not spec.significant or auto_shutdown is not AutoShutdown.NEVER
    _need(fine, "significant", spec.significant, "False while auto_shutdown is NEVER")


def _check_start(start: object) -> None:
    _need(callable(start), "start", start, "an Actor class or a function (kernel, *args) -> Ref")
    # A class which is no actor would be called like a function and give back something that is no Ref.
    is_actor = not isinstance(start, type) or (hasattr(start, "dispatcher") and callable(getattr(start, "init", None)))
    _need(is_actor, "start", start, "a class that derives from Actor")


def _as_args(args: Any) -> tuple[Any, ...]:
    _need(isinstance(args, tuple | list), "args", args, "a tuple")
    return tuple(args)


def _as_kwargs(kwargs: Any) -> Mapping[str, Any]:
    fine = isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)
    _need(fine, "kwargs", kwargs, "a mapping with str keys")
    fine = _SPAWN_WORDS.isdisjoint(kwargs)
    _need(fine, "kwargs", kwargs, f"keys other than {', '.join(sorted(_SPAWN_WORDS))}, which spawning takes itself")
    return MappingProxyType(dict(kwargs))


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _need(fine: bool, field_name: str, value: object, allowed: object) -> None:
    if not fine:
        if isinstance(allowed, type) and issubclass(allowed, Enum):
            allowed = f"one of {', '.join(str(member) for member in allowed)}"
        raise SpecError(field_name, value, allowed)
