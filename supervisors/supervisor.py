"""The ordered supervisor: children start in order, stop in reverse, and come back by a strategy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from supervisors import reports
from supervisors.answering import answer
from supervisors.cell import Ignore
from supervisors.child import Child, Counts, Entry, count, spec_of
from supervisors.children import Children, Parent
from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    Restarting,
    Running,
    SpecError,
    StartFailed,
)
from supervisors.exits import Exit
from supervisors.intensity import Intensity
from supervisors.ref import Ref
from supervisors.spec import (
    AutoShutdown,
    ChildId,
    ChildLike,
    ChildSpec,
    check_childspecs,
)
from supervisors.strategies import Strategy, plan
from supervisors.zombies import Zombies


def check_limits(strategy: Strategy, max_restarts: int, max_seconds: float) -> Intensity:
    """The window of a supervisor with these options. Raises `SpecError` for what makes no sense."""
    if not isinstance(strategy, Strategy):
        raise SpecError("strategy", strategy, f"one of {', '.join(map(str, Strategy))}")
    return Intensity(max_restarts, max_seconds)


class Supervisor(Parent):
    """Starts `children` in order and keeps them running; stops them in reverse order when it ends.

    Messages, each answered with a value or with the error named (which does not harm the supervisor):

        start_child(spec)     -> Ref      StartFailed, AlreadyStarted(ref), AlreadyPresent
        terminate_child(id)   -> None     NotFound, StopFromBelow; the spec stays, unless the child is temporary
        restart_child(id)     -> Ref      NotFound, Running, Restarting, StartFailed
        delete_child(id)      -> None     NotFound, Running, Restarting
        which_children()      -> list[Child], in start order
        which_child(id)       -> Child    NotFound
        count_children()      -> Counts
        get_childspec(id)     -> ChildSpec, complete    NotFound

    When more than `max_restarts` restarts are due within `max_seconds`, it stops its children and ends with
    `Shutdown("max_restarts")`, which is clean: its own supervisor restarts it only if it is permanent.

    It runs on the pool and is deaf while a child starts or stops (as in OTP), so a child must not call its
    supervisor from `init` or `terminate`. Between two attempts to restart a child it answers.

    Beyond OTP: with `max_zombies` it ends with `Shutdown("max_zombies")` when more of its fenced children than that
    still have a thread in their code; children with a `budget_key` have a window of their own (see `ChildSpec`); and
    who would wait for its own end is refused (StopFromBelow).

    A subclass with a fixed set of children overrides `init` and calls
    `super().init([ChildSpec(...), ...], strategy=...)`.
    """

    def init(
        self,
        children: Iterable[ChildLike] = (),
        *,
        strategy: Strategy,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        max_zombies: int | None = None,
    ) -> None:
        """Check everything, then start the children one after the other.

        Raises `SpecError` before any child starts, and `StartFailed` for the first child that does not come up,
        after the children before it were stopped in reverse order.
        """
        self._window = check_limits(strategy, max_restarts, max_seconds)
        if not isinstance(auto_shutdown, AutoShutdown):
            raise SpecError("auto_shutdown", auto_shutdown, f"one of {', '.join(map(str, AutoShutdown))}")
        self._strategy = strategy
        self._auto_shutdown = auto_shutdown
        zombies = Zombies(max_zombies)
        specs = check_childspecs(children, auto_shutdown=auto_shutdown)
        for spec in specs:
            self._check_budget(spec)
        self._table: dict[ChildId, Entry] = {}
        self._children = Children(self, self._table, strategy.value, self._window)
        self._children.zombies = zombies
        for spec in specs:
            self._boot(spec)

    def _boot(self, spec: ChildSpec) -> None:
        entry = Entry(spec)
        try:
            self._keep(entry, self._children.start(entry))
        except StartFailed as failed:
            self._children.report(reports.START_ERROR, failed.cause, entry)
            self._children.stop_in_turn(reversed(self._table.values()))
            self._children.flush()
            raise

    def terminate(self, exit: Exit) -> None:
        """Stop the children in reverse start order, each within its own `shutdown`."""
        children = getattr(self, "_children", None)  # init may have failed before it was made
        if children is not None:
            children.hear()
            children.stop_in_turn(reversed(self._table.values()))
            children.flush()

    # --- the management API -------------------------------------------------------------------------------------

    @answer
    def start_child(self, child: ChildLike) -> Ref[Any]:
        """Start a child behind the last one. A child whose `init` gives IGNORE is kept, and IGNORE is the answer."""
        spec = spec_of(child, self._auto_shutdown)
        self._check_budget(spec)
        known = self._table.get(spec.id)
        if known is not None:
            raise AlreadyPresent(spec.id) if known.ref is None else AlreadyStarted(known.ref)
        entry = Entry(spec)
        return self._keep(entry, self._children.start_on_request(entry))

    @answer
    def terminate_child(self, id: ChildId) -> None:
        """Stop the child; returns when it is down. One that is not running stays so, and is no longer retried."""
        entry = self._entry(id)
        self.refuse_from_below(entry.ref)
        self._children.stop(entry)
        if entry.spec.is_temporary:
            del self._table[id]

    @answer
    def restart_child(self, id: ChildId) -> Ref[Any]:
        """Start a child that is not running, in its old place of the order. Does not count as a restart."""
        entry = self._idle(id)
        return self._keep(entry, self._children.start_on_request(entry))

    @answer
    def delete_child(self, id: ChildId) -> None:
        """Forget a child that is not running."""
        del self._table[self._idle(id).spec.id]

    @answer
    def which_child(self, id: ChildId) -> Child:
        return self._entry(id).line()

    @answer
    def get_childspec(self, id: ChildId) -> ChildSpec:
        return self._entry(id).spec

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
        if spec.restarts_after(exit):
            self._restart(entry)
            return
        if spec.is_temporary:
            del self._table[spec.id]
        if spec.significant and self._must_shut_down():
            self._children.end("auto_shutdown", "auto_shutdown", entry)

    def _must_shut_down(self) -> bool:
        if self._auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
            return not any(each.spec.significant and each.is_active for each in self._table.values())
        return self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT

    def _restart(self, entry: Entry) -> None:
        """Restart `entry` and whoever goes along: at once, or after its backoff."""
        if self._children.must_wait(entry):
            self._stop_group(entry)  # nothing that leans on it may run without it
            self._children.later(entry, Supervisor.try_again, entry.spec.id)
        else:
            self._attempt(entry)

    def try_again(self, id: ChildId, number: int) -> None:
        """The supervisor's message to itself: the next attempt to restart a child. Anything stale is ignored."""
        entry = self._table.get(id)
        if entry is not None and self._children.is_due(entry, number):
            self._attempt(entry)

    _restarting = (child_ended, try_again)

    def _attempt(self, entry: Entry) -> None:
        """One restart of the group of `entry`; it counts once, whatever comes of it."""
        key = entry.spec.budget_key
        if key is not None:
            if self._children.budgets.admit(key, self.clock.now()):
                self._perform(entry)
            else:
                self._give_up(entry)
            return
        if not self._window.admit(self.clock.now()):
            self._children.end("reached_max_restart_intensity", "max_restarts", entry)
            return
        self._perform(entry)

    def _give_up(self, entry: Entry) -> None:
        """The budget of this child's key is used up: stop those that share it, and live."""
        group = self._children.give_up(entry)
        for each in group:
            if each.spec.is_temporary:
                del self._table[each.spec.id]
        if any(each.spec.significant for each in group) and self._must_shut_down():
            self._children.end("auto_shutdown", "auto_shutdown", entry)

    def _perform(self, entry: Entry) -> None:
        entry.attempts += 1
        group = self._stop_group(entry)
        if len(group) == 1:
            self._children.restart_last(group[0], partial(self._restarted, group[0]))
            return
        for each in group:
            try:
                self._children.restart(each)
            except StartFailed as failed:
                self._restarted(each, failed)
                return

    def _restarted(self, entry: Entry, failed: StartFailed | None) -> None:
        """What became of a restart: one that failed is tried again, with those that were to follow."""
        if failed is not None:
            self._children.report(reports.START_ERROR, failed.cause, entry)
            entry.attempts = max(1, entry.attempts)
            self._children.later(entry, Supervisor.try_again, entry.spec.id)

    def _stop_group(self, failed: Entry) -> list[Entry]:
        """Stop those who go along with `failed`; gives those to start again, in start order.

        A temporary child in the group is forgotten; one that had finished or was stopped by hand is started again.
        """
        if self._strategy is Strategy.ONE_FOR_ONE:
            return [failed]
        table = self._table
        chosen = plan(self._strategy, table, failed.spec.id)
        self._children.stop_in_turn((table[id] for id in chosen.stop), again=True)  # noqa: A001
        group = [table[id] for id in chosen.start]  # noqa: A001
        for entry in group:
            if entry.spec.is_temporary:
                del table[entry.spec.id]
        return [entry for entry in group if not entry.spec.is_temporary]

    # --- details ------------------------------------------------------------------------------------------------

    def _keep(self, entry: Entry, started: Ref[Any] | Ignore) -> Ref[Any]:
        if isinstance(started, Ref) or not entry.spec.is_temporary:
            self._table[entry.spec.id] = entry
        return cast("Ref[Any]", entry.told(started))

    def _check_budget(self, spec: ChildSpec) -> None:
        if spec.budget_key is not None and self._strategy is not Strategy.ONE_FOR_ONE:
            raise SpecError("budget_key", spec.budget_key, "None: children that lean on each other are not given up")

    def _entry(self, id: ChildId) -> Entry:
        try:
            return self._table[id]
        except (KeyError, TypeError):  # not there, or something that cannot be a key
            raise NotFound(id) from None

    def _idle(self, id: ChildId) -> Entry:
        entry = self._entry(id)
        if entry.ref is not None:
            raise Running(id)
        if entry.is_retrying:
            raise Restarting(id)
        return entry
