"""The children of one supervisor: started, watched and stopped; what every kind of supervisor shares.

All of it runs in the thread that runs the supervisor, but for what is marked as published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Final

from supervisors import reports
from supervisors.actor import Actor
from supervisors.cell import Ignore
from supervisors.child import COMING, Entry, is_expected
from supervisors.errors import AlreadyStarted, StartFailed
from supervisors.exits import Crash, Exit, Killed, Shutdown, is_clean
from supervisors.intensity import Budgets, Intensity
from supervisors.lineage import refuse_from_below
from supervisors.links import ExitSignal
from supervisors.mailbox import Mailbox
from supervisors.ref import Ref
from supervisors.spec import BRUTAL_KILL, ChildType, Restart
from supervisors.starter import Starter
from supervisors.strategies import Strategy
from supervisors.writer import Writer
from supervisors.zombies import Zombies

_SHUTDOWN: Final = Shutdown()
_ALONE: Final = frozenset({Strategy.ONE_FOR_ONE.value, "dynamic"})
_START: Final = ("supervisor", "child", "start")
_RESTART: Final = ("supervisor", "child", "restart")
_TERMINATE: Final = ("supervisor", "child", "terminate")
_GIVEN_UP: Final = ("supervisor", "budget", "exhausted")


class Parent(Actor):
    """What every kind of supervisor is."""

    child_type: ClassVar[ChildType] = ChildType.SUPERVISOR
    trap_exit = True
    _restarting: ClassVar[tuple[Any, ...]] = ()
    """The handlers that restart children, as they are here. In a subclass that has others nothing is done by halves."""
    _children: Children

    def on_info(self, message: object) -> None:
        """Somebody sent what a supervisor does not know: ignored, and reported unless it is an exit signal."""
        if isinstance(message, ExitSignal):
            return
        reports.unexpected_message(self.kernel.telemetry, supervisor=self.name, message=message)

    def refuse_from_below(self, ref: Ref[Any] | None) -> None:
        """Raise StopFromBelow if who waits for the answer to this message belongs to `ref`, which is to be stopped."""
        asker = getattr(self.ref.mailbox.cur, "_caller", None)
        if asker is not None and ref is not None:
            refuse_from_below(asker, ref.mailbox)

    def write_reports(self) -> None:
        """The supervisor's message to itself: write what happened since the last time."""
        self._children.writer.write_one()


class Children:
    """Starts, watches and stops the children of `owner`."""

    def __init__(self, owner: Parent, table: Mapping[Any, Entry], strategy: str, window: Intensity) -> None:
        self._owner = owner
        self._table = table
        self._strategy = strategy
        self._window = window
        self._mailbox = owner.ref.mailbox
        self._kernel = owner.kernel
        self._telemetry = owner.kernel.telemetry
        self._clock = owner.kernel.clock
        self._living: dict[Ref[Any], Entry] = {}
        self.writer = Writer(owner, type(owner).write_reports)
        self.report, self.flush = self.writer.report, self.writer.flush
        self.budgets = Budgets(window.max_restarts, window.max_seconds)
        self.zombies = Zombies(None)
        self._starter = Starter(owner, self, self._count_zombie)
        kind: Any = type(owner)
        self._is_plain = kind._restarting == (kind.child_ended, kind.try_again)
        self.is_ending = False
        """The supervisor has decided to end: what it still hears of its children leads to nothing."""

    # --- published: any thread -----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """The children in start order; a copy, made in one step of the interpreter."""
        return list(self._table.values())

    def facts(self) -> dict[str, Any]:
        """What a snapshot says of the supervisor itself."""
        window = self._window
        return {
            "strategy": self._strategy,
            "recent_restarts": window.recent,
            "max_restarts": window.max_restarts,
            "max_seconds": window.max_seconds,
        }

    # --- up -----------------------------------------------------------------------------------------------------

    def start(self, entry: Entry) -> Ref[Any] | Ignore:
        """Bring `entry` up; gives IGNORE, and nothing runs, if its `init` said so.

        Blocks until `init` is done, at most `start_timeout` seconds. Raises `StartFailed`, whatever went wrong.
        """
        self._forget_retry(entry)
        ref = self._starter.spawn(entry)
        self._take(entry, ref)
        return ref

    def _take(self, entry: Entry, ref: Ref[Any] | Ignore) -> None:
        if isinstance(ref, Ref):
            self._up(entry, ref)
        else:
            entry.ref, entry.state = None, "stopped"

    def launch(self, entry: Entry, cls: type[Actor], *args: Any) -> Ref[Any]:
        """As `start`, without waiting for `init`, which must be one that cannot fail; `args` are not kept."""
        cell, _ = self._kernel.begin(cls, *args, parent=self._owner.ref, on_down=self)
        ref: Ref[Any] = cell.ref
        self._up(entry, ref)
        self._starter.watch(ref)  # `on_down` is for those whose init was done; this one may be fenced before
        return ref

    def _up(self, entry: Entry, ref: Ref[Any]) -> None:
        entry.ref, entry.state, entry.started_at = ref, "running", self._clock.now()
        self._living[ref] = entry
        if ref.is_alive():  # it may have taken names by itself
            ref.mailbox.seat = entry
        if entry.spec.is_temporary and (entry.spec.args or entry.spec.kwargs):
            entry.spec = entry.spec.without_arguments()
        if self._telemetry.attached(_START):
            self._telemetry.execute(_START, {}, self._about(entry))

    def start_on_request(self, entry: Entry) -> Ref[Any] | Ignore:
        """As `start`, for `start_child`: a taken name is `AlreadyStarted(ref)`, so that get-or-start has no race."""
        try:
            return self.start(entry)
        except StartFailed as failed:
            if isinstance(failed.cause, AlreadyStarted):
                raise failed.cause from None
            raise

    def restart(self, entry: Entry) -> None:
        """As `start`, counted as a restart of this child."""
        self.start(entry)
        self._count(entry)

    def restart_last(self, entry: Entry, then: Callable[[StartFailed | None], object]) -> None:
        """As `restart`, for the last that a handler does, which may pause for it; `then` is told whether it failed."""

        def started(found: Ref[Any] | Ignore | StartFailed) -> None:
            if isinstance(found, StartFailed):
                then(found)
            else:
                self._take(entry, found)
                self._count(entry)
                then(None)

        self._forget_retry(entry)
        self._starter.spawn_last(entry, started, self._is_plain)

    def _count(self, entry: Entry) -> None:
        entry.restarts += 1
        if self._telemetry.attached(_RESTART):
            self._telemetry.execute(_RESTART, {"restarts": entry.restarts}, self._about(entry))

    # --- down ---------------------------------------------------------------------------------------------------

    def stop(self, entry: Entry, again: bool = False) -> None:
        """Bring `entry` down and wait for it, at most its `shutdown`, then fence it. A retry that is due is dropped.

        `again` if it is going to be started again, for those who call it by name meanwhile.
        """
        self._forget_retry(entry)
        ref = entry.ref
        if ref is not None:
            self._tell(entry, ref, again)
            self._await(entry, ref, self._patience(entry))
        entry.state = "stopped"

    def stop_in_turn(self, entries: Iterable[Entry], again: bool = False) -> None:
        """Stop one after the other, each with its own time: what started later leans on what started earlier."""
        for entry in list(entries):
            self.stop(entry, again)

    def end(self, word: str, detail: str, entry: Entry) -> None:
        """The supervisor ends by its own decision, with `Shutdown(detail)`; reported with `word`, about `entry`."""
        self.is_ending = True
        self.report(reports.SHUTDOWN, word, entry)
        self._owner.stop(Shutdown(detail))

    def hear(self) -> None:
        """Report the children that ended before their supervisor was told to: that order overtook the word of them."""
        for ref, entry in [] if self.is_ending else list(self._living.items()):
            exit = ref.mailbox.exit  # noqa: A001 - the word of the domain
            if exit is not None and not ref.is_alive():
                self.report_end(entry, ref, exit)
                self._bury(entry, exit)

    def report_end(self, entry: Entry, ref: Ref[Any], exit: Exit) -> None:
        """Report that a child ended by itself, unless there is nothing to it."""
        if isinstance(exit, Killed) and entry.is_unwanted:
            return
        if entry.spec.restart is Restart.PERMANENT or not is_clean(exit):
            self.report(reports.CHILD_TERMINATED, exit, entry, ref)

    def stop_together(self, entries: Iterable[Entry]) -> None:
        """Tell all at once, then wait; each has its own time, and all times run together."""
        all_entries = list(entries)
        living = [(entry, entry.ref) for entry in all_entries if entry.ref is not None]
        for entry in all_entries:
            self._forget_retry(entry)
            entry.state = "stopped"
        told_at = self._clock.now()
        for entry, ref in living:
            self._tell(entry, ref)
        for entry, ref in sorted(living, key=lambda pair: self._patience(pair[0])):
            self._await(entry, ref, told_at + self._patience(entry) - self._clock.now())

    def _tell(self, entry: Entry, ref: Ref[Any], again: bool = False) -> None:
        ref.mailbox.seat = COMING if again and not entry.spec.is_temporary else None
        if entry.spec.shutdown is BRUTAL_KILL:
            ref.mailbox.fence()
        else:
            ref.mailbox.request_exit(_SHUTDOWN)

    def _await(self, entry: Entry, ref: Ref[Any], seconds: float) -> None:
        down = ref.down()
        if not down.wait(None if seconds == math.inf else max(0.0, seconds), self._clock):
            ref.mailbox.fence()
            down.wait(None, self._clock)  # at once, or when the thread that is just finishing it is through
        exit = down.take()  # noqa: A001 - the word of the domain
        if not is_expected(entry.spec, exit):
            self.report(reports.SHUTDOWN_ERROR, exit, entry, ref)
        self._bury(entry, exit)

    @staticmethod
    def _patience(entry: Entry) -> float:
        shutdown = entry.spec.shutdown
        return shutdown if isinstance(shutdown, int | float) else 0.0

    def __call__(self, ref: Ref[Any], exit: Exit) -> None:
        """A child died. In the thread that finishes it: leave word in the supervisor's queue, behind what is there."""
        if type(exit) is Crash:
            self.writer.remember(ref)
        message = ("child_ended", (ref, exit), None, None)
        ref.mailbox.bequeath(self._mailbox, message, partial(self._is_quick, ref, exit))

    def _is_quick(self, ref: Ref[Any], exit: Exit) -> bool:
        """Whether the end of `ref` leads to one restart, at once, of a class that promises never to block."""
        entry = self._living.get(ref)
        if entry is None or self._strategy not in _ALONE or not self._is_plain:
            return False
        spec = entry.spec
        is_inline = isinstance(spec.start, type) and getattr(spec.start, "inline", False)
        is_plain = spec.restarts_after(exit) and spec.backoff is None and spec.budget_key is None
        return is_inline and is_plain and not self.is_ending and self._window.has_room(self._clock.now())

    def ended(self, ref: Ref[Any], exit: Exit) -> Entry | None:
        """The child that `ref` is the present life of, from now on not running; None for any other ref."""
        entry = self._living.get(ref)
        if entry is not None:
            self._bury(entry, exit)
        else:
            self.writer.forget(ref)
        return entry

    def _bury(self, entry: Entry, exit: Exit) -> None:
        ref, entry.ref = entry.ref, None
        if ref is not None:
            del self._living[ref]
            ref.mailbox.unwatch(self)
        entry.state = "stopped"
        if ref is not None and isinstance(exit, Killed):
            self._count_zombie(entry, ref.mailbox)
        if self._telemetry.attached(_TERMINATE):
            self._telemetry.execute(_TERMINATE, {}, {**self._about(entry), "ref": ref, "exit": exit})

    def _count_zombie(self, entry: Entry, life: Mailbox) -> None:
        """`life` was fenced; its thread may still be in its code. Too many of those end the supervisor."""
        self.zombies.add(life)
        if self._mailbox.started and not self.is_ending and self.zombies.too_many():
            self.end("reached_max_zombies", "max_zombies", entry)

    # --- again --------------------------------------------------------------------------------------------------

    def must_wait(self, entry: Entry) -> bool:
        """Whether `entry`, which has just crashed, must wait for its backoff; a healthy life begins a new series."""
        backoff = entry.spec.backoff
        if backoff is None:
            return False
        if backoff.is_new_series(self._clock.now() - entry.started_at):
            entry.attempts = 0
        return entry.attempts > 0

    def later(self, entry: Entry, method: Callable[..., object], key: object) -> None:
        """Have the supervisor call `method(key, number)`: behind the messages it has, or after the backoff.

        A message and not a loop, so that the supervisor answers between two attempts and can be stopped.
        """
        self._forget_retry(entry)
        backoff = entry.spec.backoff
        if backoff is None:
            entry.state = "restarting"
            self._owner.ref.cast(method, key, entry.retry)
        else:
            entry.state = "waiting"
            entry.timer = self._owner.send_after(backoff.delay(entry.attempts), method, key, entry.retry)

    def is_due(self, entry: Entry | None, number: int) -> bool:
        """Whether the retry `number` is the one that is due, and not one that was overtaken."""
        return entry is not None and entry.is_retrying and entry.retry == number

    def _forget_retry(self, entry: Entry) -> None:
        entry.retry += 1
        timer, entry.timer = entry.timer, None
        if timer is not None:
            timer.cancel()

    def give_up(self, entry: Entry) -> list[Entry]:
        """The budget of the key of `entry` is used up: stop the children that share it, and tell; these children."""
        key = entry.spec.budget_key
        group = [each for each in self.entries() if each.spec.budget_key == key]
        self.budgets.renew(key)
        for each in group:
            self.report(reports.GIVEN_UP, "reached_max_restart_intensity", each)
        about = {"supervisor": self._owner.name, "key": key, "ids": [each.spec.id for each in group]}
        self._telemetry.execute(_GIVEN_UP, {"children": len(group)}, about)
        if self._strategy == "dynamic":
            self.stop_together(group)
        else:
            self.stop_in_turn(reversed(group))
        return group

    def _about(self, entry: Entry) -> dict[str, Any]:
        return {"supervisor": self._owner.name, "id": entry.spec.id, "ref": entry.ref}


def published(ref: Ref[Any]) -> Children | None:
    """The children of the supervisor behind `ref`; None if it is no supervisor, or has not begun. Any thread."""
    children = getattr(ref.mailbox.actor, "_children", None)
    return children if isinstance(children, Children) else None
