"""`Starter`: how a supervisor brings one child up, and waits for its `init` or pauses until it is done.

All of it runs in the thread that runs the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from supervisors.actor import Actor
from supervisors.birth import Name
from supervisors.cell import Cell, Ignore
from supervisors.child import Entry
from supervisors.errors import CallTimeout, StartFailed
from supervisors.exits import Exit, Killed
from supervisors.lineage import is_below
from supervisors.pause import Pause
from supervisors.ref import Ref
from supervisors.reply import Reply
from supervisors.spec import ChildSpec
from supervisors.tracebacks import without_repeats

Outcome = Callable[[Ref[Any] | Ignore | StartFailed], object]
"""Is told what a start came to."""


class Seat:
    """The name of a child: whoever takes it is one of those that come after each other as `entry`."""

    __slots__ = ("_entry", "_name")

    def __init__(self, entry: Entry, name: Name) -> None:
        self._entry, self._name = entry, name

    @property
    def label(self) -> str:
        """The name, for messages."""
        return self._name.label

    def claim(self, ref: Ref[Any]) -> None:
        """Register `ref`, and let its death tell callers whether to wait. Raises AlreadyRegistered."""
        ref.mailbox.seat = self._entry
        self._name.claim(ref)


class Starter:
    """Starts the children of `owner`."""

    def __init__(
        self, owner: Actor, told: Callable[[Ref[Any], Exit], None], fenced: Callable[[Entry, Cell], object]
    ) -> None:
        """`told(ref, exit)` is called at the death of a child, `fenced(entry, cell)` when its `init` took too long."""
        self._owner = owner
        self._told = told
        self._fenced = fenced
        self._mailbox = owner.ref.mailbox
        self._kernel = owner.kernel
        self._clock = owner.kernel.clock

    def spawn(self, entry: Entry) -> Ref[Any] | Ignore:
        """Start a life of `entry` and wait for its `init`. Raises `StartFailed`, whatever went wrong."""
        spec, entry.info = entry.spec, ()
        # Whatever the start callable raises, SystemExit included, is the failure of this child and not of its
        # supervisor: this is the broad `except` of the trees.
        try:
            if not isinstance(spec.start, type):
                return self._adopt(entry, spec.start(self._kernel, *spec.args, **spec.kwargs))
            started = self._spawn_class(spec.start, entry)
        except BaseException as error:
            raise start_failed(spec, without_repeats(error)) from cause_of(error)
        return outcome(spec, started)

    def spawn_last(self, entry: Entry, then: Outcome, may_pause: bool) -> None:
        """As `spawn`, for the last that a handler of the supervisor does; `then` is told what it came to.

        Where it can and may, the supervisor pauses until `init` is done, and leaves its thread to that.
        """
        try:
            if not may_pause or not self._can_pause(entry.spec):
                found: Ref[Any] | Ignore | StartFailed = self.spawn(entry)
            else:
                self._begin_pause(entry, then)
                return
        except StartFailed as failed:
            found = failed
        then(found)

    def watch(self, ref: Ref[Any]) -> None:
        """Tell of the death of `ref`, which may be older than this: no death is lost."""
        cell, told = ref.mailbox, self._told
        if not cell.watch(told, lambda life: told(life.ref, life.exit or Killed())):
            told(ref, cell.exit or Killed())

    def _spawn_class(self, cls: type[Actor], entry: Entry) -> Reply[Ref[Any] | Ignore]:
        """Start an actor and wait until its `init` is done, for better or worse."""
        is_inline = getattr(cls, "inline", False)
        cell, started = self._begin(cls, entry, is_inline)
        if is_inline:
            self._run_here(cell, started)
        try:
            in_time = started.wait(entry.spec.start_timeout, self._clock)
        except BaseException:
            cell.fence()
            raise
        if not in_time:
            cell.fence()
            raise self._overdue(entry, cell)
        return started

    def _begin(self, cls: type[Actor], entry: Entry, owned: bool) -> tuple[Cell, Reply[Ref[Any] | Ignore]]:
        spec = entry.spec
        name = None if spec.name is None else Seat(entry, spec.name)
        return self._kernel.begin(
            cls, *spec.args, name=name, parent=self._owner.ref, on_down=self._told, owned=owned, **spec.kwargs
        )

    def _run_here(self, cell: Cell, started: Reply[Any]) -> None:
        """An inline class promises never to block, so its init runs here and no other thread need be woken."""
        me = self._mailbox
        before, me.waiting = me.waiting, started  # so that a child which calls us from its init is told at once
        try:
            if cell.run_first():
                cell.kick()
        finally:
            me.waiting = before

    def _overdue(self, entry: Entry, cell: Cell) -> CallTimeout:
        self._fenced(entry, cell)
        return CallTimeout(cell.name, entry.spec.start_timeout)

    def _adopt(self, entry: Entry, given: Any) -> Ref[Any] | Ignore:
        """What a start function gave; from now on it ends with its supervisor, as a spawned child does."""
        if isinstance(given, Ignore):
            return given
        if isinstance(given, tuple) and len(given) == 2:
            given, entry.info = given[0], given[1:]
        if not isinstance(given, Ref):
            raise TypeError(f"the start function gave {given!r}; it must give a Ref, (Ref, info) or IGNORE")
        if is_below(self._mailbox, given.mailbox) or self._told in given.mailbox.watchers:
            raise ValueError(f"the start function gave {given!r}, which cannot be a child: it is one, or is above it")
        self._kernel.bind(given, self._owner.ref)
        self.watch(given)
        return given

    # --- with a pause -------------------------------------------------------------------------------------------

    def _can_pause(self, spec: ChildSpec) -> bool:
        """Whether the child runs on the pool that runs the supervisor right now."""
        start: Any = spec.start
        mailbox = self._mailbox
        is_actor = isinstance(start, type) and Actor in start.__mro__
        if mailbox.host is None or not is_actor or start.inline:
            return False
        return bool(start.dispatcher == mailbox.dispatcher_name)  # one that is not installed fails as a start does

    def _begin_pause(self, entry: Entry, then: Outcome) -> None:
        spec, entry.info = entry.spec, ()
        try:
            cell, started = self._begin(spec.start, entry, owned=True)  # type: ignore[arg-type]  # see _can_pause
        except BaseException as error:  # as in `spawn`
            raise start_failed(spec, error) from cause_of(error)
        rest = partial(self._after_pause, entry, cell, started, then)
        self._mailbox.pause(Pause(self._mailbox, cell, started, spec.start_timeout, self._clock, rest))

    def _after_pause(self, entry: Entry, cell: Cell, started: Reply[Any], then: Outcome, pause: Pause) -> None:
        try:
            if pause.is_late:
                late = self._overdue(entry, cell)
                raise start_failed(entry.spec, late) from late
            found: Ref[Any] | Ignore | StartFailed = outcome(entry.spec, started)
        except StartFailed as failed:
            found = failed
        then(found)


def outcome(spec: ChildSpec, started: Reply[Ref[Any] | Ignore]) -> Ref[Any] | Ignore:
    """What `init` came to. Raises `StartFailed`."""
    failure = started.exception()
    if failure is not None:
        cause = failure.__cause__ or failure
        raise StartFailed(spec.id, cause) from cause
    return started.take()


def start_failed(spec: ChildSpec, error: BaseException) -> StartFailed:
    """`error` as the failure of the child of `spec`."""
    return StartFailed(spec.id, cause_of(error))


def cause_of(error: BaseException) -> BaseException:
    """What made a start fail."""
    return error.cause if isinstance(error, StartFailed) else error
