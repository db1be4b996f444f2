"""A producer of what an iterable gives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Literal, TypeAlias, cast

from supervisors.birth import Name
from supervisors.blocking import blocking
from supervisors.errors import SpecError
from supervisors.kernel import current_kernel
from supervisors.ref import Ref
from supervisors.stages.dispatchers import Dispatcher
from supervisors.stages.producing import DemandMode, Producer
from supervisors.stages.stage import Events
from supervisors.stages.subscription import Cancelled, Subscription

OnCancel: TypeAlias = Literal["continue", "stop"]

_EXHAUSTED = object()


class FromIterable(Producer):
    """Takes as many items as were asked for; ends with Normal when there are no more and all were sent.

    Under a supervisor give it something that can be iterated again (a list, not a generator): a restart begins anew.
    """

    def init(
        self,
        iterable: Iterable[Any],
        *,
        dispatcher: Dispatcher | None = None,
        demand: DemandMode = "forward",
        on_cancel: OnCancel = "continue",
    ) -> None:
        """`on_cancel="stop"` ends it when its last consumer has gone. Raises SpecError."""
        if on_cancel not in ("continue", "stop"):
            raise SpecError("on_cancel", on_cancel, "'continue' or 'stop'")
        self.produces(dispatcher=dispatcher, demand=demand)
        self._on_cancel = on_cancel
        self._items = iter(iterable)
        self._exhausted = False

    def handle_demand(self, demand: int) -> Events:
        with blocking():  # it is a stranger's code: it may wait for a file or a socket
            items = list(islice(self._items, demand))
        if len(items) < demand and not self._exhausted:
            self._exhausted = True
            self.ref.cast(FromIterable.info, _EXHAUSTED)
        return items

    def handle_cancel(self, cancelled: Cancelled, from_: Subscription) -> Events:
        if self._on_cancel == "stop" and not self._consumers:
            self.stop()
        return None

    def informed(self, message: Any) -> Any:
        return self.stop() if message is _EXHAUSTED else super().informed(message)


def from_iterable(
    iterable: Iterable[Any],
    *,
    dispatcher: Dispatcher | None = None,
    demand: DemandMode = "forward",
    on_cancel: OnCancel = "continue",
    name: Name | None = None,
) -> Ref[FromIterable]:
    """Start a producer of the items of `iterable`, in the system of the calling actor or in the one entered here.

    Blocks until it has started. Raises NoSystem, SpecError, StartFailed.
    """
    if on_cancel not in ("continue", "stop"):
        raise SpecError("on_cancel", on_cancel, "'continue' or 'stop'")
    if demand not in ("forward", "accumulate"):
        raise SpecError("demand", demand, "'forward' or 'accumulate'")
    options: dict[str, Any] = {"dispatcher": dispatcher, "demand": demand, "on_cancel": on_cancel}
    return cast("Ref[FromIterable]", current_kernel().spawn(FromIterable, iterable, name=name, **options))
