"""The bridge from stages to a loop: iterate what producers send, from a plain thread or on an asyncio loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, cast

from supervisors.errors import ActorDied, SpecError
from supervisors.exits import NoProc, Normal
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.stages.errors import NotAProducer
from supervisors.stages.producing import DemandMode, Producing
from supervisors.stages.subscription import Address, To, resolve
from supervisors.stages.tap import Tap


def stream(producers: Iterable[To | Address], *, demand: DemandMode = "forward") -> Stream:
    """The events of `producers`, to be iterated once: `for event in stream([producer])`, or `async for`.

    Producers are asked for more as the loop comes to their events. A producer that ends, or cancels, ends the stream
    as its `To.cancel` says: "permanent" (the default) raises ActorDied with its exit, even a clean one; "transient"
    does so unless the exit is clean; otherwise the others go on, and the loop is over when none is left. What came
    before is iterated first. Once iterated, producers are set to `demand` (GenStage's option; "forward" by default).

    A loop that is left early lets go of the producers. Raises SpecError for no producers or what is none, NotAProducer.
    """
    if not isinstance(producers, Iterable):
        raise SpecError("producers", producers, "a list, as in stream([producer])")
    wishes = [each if isinstance(each, To) else To(each) for each in producers]
    if not wishes:
        raise SpecError("producers", producers, "at least one")
    for wish in wishes:
        ref = resolve(wish.producer)
        if ref is not None and not issubclass(ref.actor_class, Producing):
            raise NotAProducer(ref.name)
    return Stream(wishes, demand)


class Stream:
    """What `stream` gives. Nothing is subscribed to before the iteration begins."""

    def __init__(self, wishes: list[To], mode: DemandMode) -> None:
        self._wishes = wishes
        self._mode = mode

    def __iter__(self) -> Iterator[Any]:
        tap = cast("Ref[Tap]", self._kernel().spawn(Tap, self._wishes, self._mode))
        try:
            while (batch := tap.within(None).call(Tap.pull)) is not None:
                yield from batch
        finally:
            tap.mailbox.request_exit(Normal())

    async def __aiter__(self) -> AsyncIterator[Any]:
        tap = cast("Ref[Tap]", await self._kernel().aspawn(Tap, self._wishes, self._mode))
        try:
            while (batch := await tap.within(None).acall(Tap.pull)) is not None:
                for event in batch:
                    yield event
        finally:
            tap.mailbox.request_exit(Normal())

    def _kernel(self) -> Kernel:
        for wish in self._wishes:
            ref = resolve(wish.producer)
            if ref is not None:
                return cast("Kernel", ref.mailbox.home)
        raise ActorDied(str(self._wishes[0].producer), NoProc(), False)
