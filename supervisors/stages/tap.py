"""The consumer behind a stream: keeps what came until the loop comes for it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from supervisors.errors import ActorDied
from supervisors.exits import Exit, NoProc, is_clean
from supervisors.reply import Reply
from supervisors.stages.calls import ask, demand
from supervisors.stages.consuming import Consuming
from supervisors.stages.demand import Batch, Demand
from supervisors.stages.producing import DemandMode
from supervisors.stages.stage import Events, Mode
from supervisors.stages.subscription import Cancelled, Subscription, To


class Tap(Consuming):
    """Asks for more only when a batch has been taken out. Its subscriptions never end it; they end the stream."""

    def init(self, wishes: Sequence[To], mode: DemandMode) -> None:
        self._ready: deque[tuple[Subscription, Batch]] = deque()
        self._books: dict[Subscription, Demand] = {}
        self._wishes: dict[Subscription, To] = {}
        self._taken: tuple[Subscription, Batch] | None = None
        self._waiting: Reply[list[Any] | None] | None = None
        self._failed: ActorDied | None = None
        for wish in wishes:
            self._open(wish)
        for wish in wishes:
            demand(wish.producer, mode)

    def _open(self, wish: To) -> None:
        subscription = self.subscribe(dataclasses.replace(wish, cancel="temporary"))
        if subscription not in self._producers:
            self._closed(subscription, wish, NoProc())
            return
        self._wishes[subscription] = wish
        self._books[subscription] = book = Demand(wish.max_demand, wish.least)
        ask(subscription, book.first())

    def handle_subscribe(self, kind: Literal["producer", "consumer"], from_: Subscription) -> Mode:
        return "manual"

    def handle_events(self, events: list[Any], from_: Subscription) -> Events:
        book = self._books.get(from_)
        if book is not None:
            self._ready.extend((from_, batch) for batch in book.receive(events).batches)
            self._serve()
        return None

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        self._books.pop(from_, None)
        wish = self._wishes.pop(from_, None)
        if wish is not None:
            self._closed(from_, wish, cancelled.reason)
            self._serve()
        return None

    def pull(self) -> Reply[list[Any] | None]:
        """The next batch; None when there will be none. The one before it counts as handled now."""
        taken, self._taken = self._taken, None
        if taken is not None and self._failed is None:
            self._settle(*taken)
        self._waiting = reply = self.defer()
        self._serve()
        return reply

    def _settle(self, subscription: Subscription, batch: Batch) -> None:
        book = self._books.get(subscription)
        if book is not None:
            ask(subscription, book.consumed(batch.counted))

    def _closed(self, subscription: Subscription, wish: To, reason: Exit) -> None:
        if self._failed is None and wish.ends_with(reason, is_clean(reason)):
            self._failed = ActorDied(str(subscription.producer), reason, False)

    def _serve(self) -> None:
        if self._waiting is None:
            return
        if self._ready:
            self._taken = self._ready.popleft()
            self._waiting.set(self._taken[1].events)
        elif self._failed is not None:
            self._waiting.fail(self._failed)
        elif not self._wishes:
            self._waiting.set(None)
        else:
            return
        self._waiting = None
