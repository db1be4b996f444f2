"""`ConsumerSupervisor`: starts one child for each event, and as many at once as it may ask for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from supervisors import reports
from supervisors.cell import Ignore
from supervisors.child import Entry
from supervisors.dynamic import DynamicSupervisor
from supervisors.errors import AlreadyStarted, SpecError, StartFailed
from supervisors.exits import Exit
from supervisors.ref import Ref
from supervisors.spec import ChildLike, Restart, child_spec
from supervisors.stages.calls import ask
from supervisors.stages.consuming import Consuming
from supervisors.stages.demand import Demand
from supervisors.stages.stage import Events, Mode
from supervisors.stages.subscription import Address, Cancelled, Subscription, To


class ConsumerSupervisor(Consuming, DynamicSupervisor):
    """A consumer whose events are children: each event is the last argument of a child of its own.

    At most `max_demand` children of a subscription live at once; when `max_demand - min_demand` of them have ended,
    it asks for as many events. A child that waits for its restart keeps its place. One that does not start, or whose
    `init` gives IGNORE, is reported and has ended. Children outlive their producer where the subscription is
    temporary. Everything else, the messages and `max_restarts` too, is as in `DynamicSupervisor`.
    """

    def init(  # type: ignore[override]
        self,
        child: ChildLike,
        *,
        subscribe_to: Iterable[To | Address] = (),
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> None:
        """`child` is transient or temporary: one that always comes back would never make room. Raises SpecError."""
        super().init(max_restarts=max_restarts, max_seconds=max_seconds)
        self._template = child_spec(child)
        if self._template.restart is Restart.PERMANENT:
            raise SpecError("restart", self._template.restart, f"{Restart.TRANSIENT} or {Restart.TEMPORARY}")
        self._books: dict[Subscription, Demand] = {}
        self._places: dict[Entry, tuple[Subscription, int]] = {}
        for to in subscribe_to:
            self.subscribe(to)

    def handle_subscribe(self, kind: Literal["producer", "consumer"], from_: Subscription) -> Mode:
        self._books[from_] = book = Demand(from_.to.max_demand, from_.to.least)
        ask(from_, book.first())
        return "manual"

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        self._books.pop(from_, None)
        return None

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        book = self._books.get(from_)
        if book is None:
            return None
        for batch, counted in book.receive(events).batches:
            for number, event in enumerate(batch):
                self._begin(event, from_, 1 if number < counted else 0)
        return None

    def _begin(self, event: Any, from_: Subscription, counted: int) -> None:
        spec = self._template.override(args=(*self._template.args, event))
        entry = Entry(spec)
        self._places[entry] = (from_, counted)
        started: Ref[Any] | Ignore | None = None
        try:
            started = self.keep(entry, self._children.start_on_request(entry))
        except (StartFailed, AlreadyStarted) as failed:
            self._children.report(reports.START_ERROR, getattr(failed, "cause", failed), entry)
        if not isinstance(started, Ref):
            self._free(entry)

    # a place is free when its child has ended for good

    def child_ended(self, ref: Ref[Any], exit: Exit) -> None:
        entry = self._table.get(ref)
        super().child_ended(ref, exit)
        self._free(entry)

    def try_again(self, ref: Ref[Any], number: int) -> None:
        entry = self._table.get(ref)
        super().try_again(ref, number)
        self._free(entry)

    def terminate_child(self, ref: Ref[Any]) -> None:
        entry = self._table.get(ref)
        answer = super().terminate_child(ref)  # its error may be the answer
        self._free(entry)
        return answer

    def _free(self, entry: Entry | None) -> None:
        place = self._places.get(entry) if entry is not None and not entry.is_active else None
        if entry is None or place is None:
            return
        del self._places[entry]
        subscription, counted = place
        book = self._books.get(subscription)
        if book is not None:
            ask(subscription, book.consumed(counted))
