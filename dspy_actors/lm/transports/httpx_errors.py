"""httpx's errors in our words. None of theirs is kept: they hold the request with its headers."""

from __future__ import annotations

import ssl

import httpx

from dspy_actors.errors import LMTransportError
from dspy_actors.lm.transports.base import transport_error
from dspy_actors.lm.transports.broken import Broken, untrusted
from dspy_actors.lm.transports.trip import Trip


def is_dropped(error: Exception) -> bool:
    """Whether a connection ended, rather than was not made."""
    return isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError))


def mapped(error: httpx.TransportError | Broken, trip: Trip, proxied: bool) -> LMTransportError:
    """The same fault in our words; the text of httpx's error holds no header. `proxied`: it went by a proxy."""
    if isinstance(error, Broken):
        return transport_error(str(error), trip.url, error.code)
    if isinstance(error, httpx.LocalProtocolError):  # its text repeats the header
        return transport_error("the request holds a header that HTTP does not allow", trip.url, "header")
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        return _not_connected(error, text, trip.url, proxied)
    if isinstance(error, httpx.ProxyError):
        return transport_error(f"the proxy refused: {text}", trip.url, "proxy")
    where = "before it answered" if trip.phase != "body" else "in the middle of its answer"
    return transport_error(f"the connection broke {where}: {text}", trip.url, "cut")


def _not_connected(error: httpx.ConnectError, text: str, url: str, proxied: bool) -> LMTransportError:
    cause: BaseException | None = error
    code = "connect"
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return transport_error(str(untrusted(cause)), url, "certificate")
        if isinstance(cause, ssl.SSLError):
            return transport_error(f"no TLS connection: {text}", url, "tls")
        if isinstance(cause, ConnectionRefusedError):
            code = "refused"
        cause = cause.__cause__ or cause.__context__
    if proxied:
        return transport_error(f"no connection to the proxy: {text}", url, "proxy")
    return transport_error(f"no connection: {text}", url, code)
