"""Which transport serves: `auto` takes aiohttp where it is installed and httpx where it is not."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeAlias

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.transports.base import Transport, TransportFactory, TransportSettings, proxy_from_environment

TransportName: TypeAlias = Literal["auto", "httpx", "aiohttp", "h11"]


_LATE = ("httpcore", "anyio._backends._asyncio")
"""What httpx loads at its first connection, for 40 ms."""


class Chosen:
    """A `TransportFactory` whose client is loaded by the first call, or by `load` before that.

    Loading takes up to half a second: whoever must not hold up the loop calls `load` in another thread first.
    """

    __slots__ = ("load",)

    def __init__(self, load: Callable[[], TransportFactory]) -> None:
        self.load = load
        """Load the client, unless it is loaded; what makes its transports. Any thread."""

    def __call__(self, base_url: str, settings: TransportSettings) -> Transport:
        return self.load()(base_url, settings)


def choose(name: str = "auto") -> Chosen:
    """The factory of the transport called `name`; loads no client.

    Raises `LMConfigurationError` for an unknown name and for `aiohttp` where it is not installed.
    """
    if name == "auto":
        return _AIOHTTP if _installed("aiohttp") else _HTTPX
    if name == "httpx":
        return _HTTPX
    if name == "h11":
        return _DIRECT
    if name != "aiohttp":
        msg = f"transport {name!r} is not known; choose 'auto', 'httpx', 'aiohttp' or 'h11'"
        raise LMConfigurationError(msg)
    if not _installed("aiohttp"):
        msg = "the aiohttp transport is an extra: pip install 'dspy-actors[fast]'"
        raise LMConfigurationError(msg)
    return _AIOHTTP


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _httpx() -> TransportFactory:
    from dspy_actors.lm.transports.httpx_slots import HttpxTransport

    for late in _LATE:
        with suppress(ImportError):  # another version may name it otherwise, and loads it itself
            importlib.import_module(late)
    return HttpxTransport


def _aiohttp() -> TransportFactory:
    from dspy_actors.lm.transports.aiohttp_pool import AiohttpTransport

    return AiohttpTransport


def _direct() -> TransportFactory:
    import urllib.request

    from dspy_actors.lm.transports.h11_direct import DirectTransport

    if not urllib.request.getproxies().keys().isdisjoint(("http", "https", "all")):
        _HTTPX.load()  # for the endpoints behind a proxy
    return lambda base_url, settings: (
        DirectTransport(base_url, settings)
        if proxy_from_environment(base_url, settings) is None
        else _HTTPX(base_url, settings)  # the direct one speaks to no proxy
    )


_HTTPX, _AIOHTTP, _DIRECT = Chosen(_httpx), Chosen(_aiohttp), Chosen(_direct)
