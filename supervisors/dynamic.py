"""The dynamic supervisor: any number of children of any kind, started on demand, stopped all at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from supervisors import reports
from supervisors.answering import answer
from supervisors.cell import Ignore
from supervisors.child import Child, Counts, Entry, count, spec_of
from supervisors.children import Children, Parent
from supervisors.errors import MaxChildren, NotFound, SpecError, StartFailed
from supervisors.exits import Exit
from supervisors.intensity import Intensity
from supervisors.ref import Ref
from supervisors.spec import AutoShutdown, ChildLike
from supervisors.zombies import Zombies


class DynamicSupervisor(Parent):
    """Starts children on demand; each is on its own (one_for_one), and they stop all together.

    Messages, each answered with a value or with the error named (which does not harm the supervisor):

        start_child(spec)       -> Ref      MaxChildren, StartFailed, AlreadyStarted(ref) if the name is taken
        terminate_child(ref)    -> None     NotFound, StopFromBelow; of a child that waits to be restarted: its old ref
        which_children()        -> list[Child], in start order
        count_children()        -> Counts

    Children are known by their refs: ids are ignored, so many children may come from one spec. A child that is gone
    for good is forgotten, as is one whose restart gave IGNORE. After a restart of the supervisor it has no children.

    Restarts and the limit of `max_restarts` within `max_seconds` are as in `Supervisor`. At its end all children are
    told at once and each has its own `shutdown`. It runs on the pool and is deaf while a child starts.
    """

    def init(
        self,
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: Iterable[Any] = (),
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        max_zombies: int | None = None,
    ) -> None:
        """`max_children` None is no limit; `extra_arguments` go before the arguments of every spec.

        Beyond Elixir's: `auto_shutdown` ends it when its significant children have ended, as a `Supervisor`: a batch
        is done when the last one is; `max_zombies` is as there. Raises `SpecError`.
        """
        if not isinstance(auto_shutdown, AutoShutdown):
            raise SpecError("auto_shutdown", auto_shutdown, f"one of {', '.join(map(str, AutoShutdown))}")
        if max_children is not None and (
            isinstance(max_children, bool) or not isinstance(max_children, int) or max_children < 0
        ):
            raise SpecError("max_children", max_children, "an int >= 0 or None")
        self._max_children = max_children
        self._extra = tuple(extra_arguments)
        self._window = Intensity(max_restarts, max_seconds)
        self._table: dict[Ref[Any], Entry] = {}
        self._auto_shutdown = auto_shutdown
        zombies = Zombies(max_zombies)
        self._children = Children(self, self._table, "dynamic", self._window)
        self._children.zombies = zombies

    def terminate(self, exit: Exit) -> None:
        """Tell all children to stop and wait for them together."""
        children = getattr(self, "_children", None)  # init may have failed before it was made
        if children is not None:
            children.hear()
            children.stop_together(self._table.values())
            children.flush()

    # --- the management API -------------------------------------------------------------------------------------

    @answer
    def start_child(self, child: ChildLike) -> Ref[Any]:
        """Start a child; IGNORE if its `init` said so, and then nothing is kept."""
        spec = spec_of(child, self._auto_shutdown)
        if self._extra:
            spec = spec.override(args=(*self._extra, *spec.args))
        self.check_room()
        entry = Entry(spec)
        return self.keep(entry, self._children.start_on_request(entry))

    @answer
    def terminate_child(self, ref: Ref[Any]) -> None:
        """Stop the child; returns when it is down and forgotten."""
        try:
            entry = self._table[ref]
        except (KeyError, TypeError):  # not there, or something that is no ref
            raise NotFound(ref) from None
        self.refuse_from_below(entry.ref)
        del self._table[ref]
        self._children.stop(entry)

    @answer
    def which_children(self) -> list[Child]:
        return [entry.line() for entry in self._table.values()]

    @answer
    def count_children(self) -> Counts:
        return count(self._table.values())

    # --- what happens to the children ---------------------------------------------------------------------------

    def child_ended(self, ref: Ref[Any], exit: Exit) -> None:
        """The message that a child has ended. One about an earlier life of a child, or a stranger, is ignored."""
        entry = self._children.ended(ref, exit)
        if entry is not None and not self._children.is_ending:
            self._ended(entry, ref, exit)

    def _ended(self, entry: Entry, ref: Ref[Any], exit: Exit) -> None:
        spec = entry.spec
        self._children.report_end(entry, ref, exit)
        if not spec.restarts_after(exit):
            del self._table[ref]
            self._after(entry)
        elif self._children.must_wait(entry):
            self._children.later(entry, DynamicSupervisor.try_again, ref)
        else:
            self._attempt(entry, ref)

    def _after(self, entry: Entry) -> None:
        """`entry` is gone for good: end if that was what we lived for."""
        mode = self._auto_shutdown
        if not entry.spec.significant or mode is AutoShutdown.NEVER:
            return
        if mode is AutoShutdown.ANY_SIGNIFICANT or not any(each.spec.significant for each in self._table.values()):
            self._children.end("auto_shutdown", "auto_shutdown", entry)

    def try_again(self, ref: Ref[Any], number: int) -> None:
        """The supervisor's message to itself: the next attempt to restart a child. Anything stale is ignored."""
        entry = self._table.get(ref)
        if entry is not None and self._children.is_due(entry, number):
            self._attempt(entry, ref)

    _restarting = (child_ended, try_again)

    def _attempt(self, entry: Entry, old: Ref[Any]) -> None:
        """One restart; it counts, whatever comes of it. Until it succeeds the child is known by its old ref."""
        key = entry.spec.budget_key
        if key is not None:
            if self._children.budgets.admit(key, self.clock.now()):
                self._perform(entry, old)
            else:
                self._give_up(entry)
            return
        if not self._window.admit(self.clock.now()):
            self._children.end("reached_max_restart_intensity", "max_restarts", entry)
            return
        self._perform(entry, old)

    def _give_up(self, entry: Entry) -> None:
        """The budget of this child's key is used up: stop and forget those that share it, and live."""
        group = self._children.give_up(entry)
        for ref, each in list(self._table.items()):
            if each in group:
                del self._table[ref]
        for each in group:
            self._after(each)

    def _perform(self, entry: Entry, old: Ref[Any]) -> None:
        entry.attempts += 1
        self._children.restart_last(entry, partial(self._restarted, entry, old))

    def _restarted(self, entry: Entry, old: Ref[Any], failed: StartFailed | None) -> None:
        """What became of a restart: one that failed is tried again."""
        if failed is not None:
            self._children.report(reports.START_ERROR, failed.cause, entry)
            self._children.later(entry, DynamicSupervisor.try_again, old)
            return
        del self._table[old]
        if entry.ref is not None:
            self._table[entry.ref] = entry

    def check_room(self) -> None:
        """Raise `MaxChildren` if there are as many children as there may be; those that wait for a restart count."""
        if self._max_children is not None and len(self._table) >= self._max_children:
            raise MaxChildren(self._max_children)

    def keep(self, entry: Entry, started: Ref[Any] | Ignore) -> Ref[Any]:
        """Look after what was just started; nothing if it gave IGNORE."""
        if isinstance(started, Ref):
            self._table[started] = entry
        return cast("Ref[Any]", entry.told(started))
