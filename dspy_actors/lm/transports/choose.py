"""Which transport serves: `auto` takes aiohttp where it is installed and httpx where it is not."""

from __future__ import annotations

import importlib.util
from typing import Literal, TypeAlias

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.transports.base import Transport, TransportFactory, TransportSettings, proxy_from_environment

TransportName: TypeAlias = Literal["auto", "httpx", "aiohttp", "h11"]


def choose(name: str = "auto") -> TransportFactory:
    """The factory of the transport called `name`; loads neither client before the factory is called.

    Raises `LMConfigurationError` for an unknown name and for `aiohttp` where it is not installed.
    """
    if name == "auto":
        return _aiohttp if _installed("aiohttp") else _httpx
    if name == "httpx":
        return _httpx
    if name == "h11":
        return _direct
    if name != "aiohttp":
        msg = f"transport {name!r} is not known; choose 'auto', 'httpx', 'aiohttp' or 'h11'"
        raise LMConfigurationError(msg)
    if not _installed("aiohttp"):
        msg = "the aiohttp transport is an extra: pip install 'dspy-actors[fast]'"
        raise LMConfigurationError(msg)
    return _aiohttp


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _httpx(base_url: str, settings: TransportSettings) -> Transport:
    from dspy_actors.lm.transports.httpx_slots import HttpxTransport

    return HttpxTransport(base_url, settings)


def _aiohttp(base_url: str, settings: TransportSettings) -> Transport:
    from dspy_actors.lm.transports.aiohttp_pool import AiohttpTransport

    return AiohttpTransport(base_url, settings)


def _direct(base_url: str, settings: TransportSettings) -> Transport:
    """The direct transport, or httpx where the environment names a proxy, which the direct one does not speak to."""
    if proxy_from_environment(base_url, settings) is not None:
        return _httpx(base_url, settings)
    from dspy_actors.lm.transports.h11_direct import DirectTransport

    return DirectTransport(base_url, settings)
