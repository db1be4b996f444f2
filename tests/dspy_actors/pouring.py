"""Read by pouring, so that the checks of reading hold for pouring too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_actors.lm.transports.base import HTTPResponse, Incoming, Take, Transport, TransportFactory, TransportSettings


class PouringIncoming:
    """`base.Incoming` whose reads are poured, each to its first bytes."""

    def __init__(self, inner: Incoming) -> None:
        self._inner = inner
        self.status = inner.status
        self.headers: Mapping[str, str] = inner.headers

    async def read(self) -> bytes:
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            assert data, "nothing is poured"
            assert not taken, "more is poured than was wanted"
            taken.append(data)
            return False

        more = await self._inner.pour(take)
        assert more == bool(taken)
        return b"".join(taken)

    async def pour(self, take: Take) -> bool:
        return await self._inner.pour(take)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Pouring:
    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, *args: Any, **more: Any) -> HTTPResponse:
        return await self._inner.send(*args, **more)

    async def open(self, *args: Any, **more: Any) -> PouringIncoming:
        return PouringIncoming(await self._inner.open(*args, **more))

    async def aclose(self) -> None:
        await self._inner.aclose()


def pouring(factory: TransportFactory) -> TransportFactory:
    """The same transport, whose answers are poured."""

    def made(base_url: str, settings: TransportSettings) -> Transport:
        return _Pouring(factory(base_url, settings))

    return made
