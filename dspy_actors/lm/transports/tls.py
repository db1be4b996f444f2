"""`Trust`: the TLS context that the transports of one event loop share."""

from __future__ import annotations

import os
import ssl
from threading import Lock
from typing import TypeAlias

_Source: TypeAlias = tuple[tuple[str | None, float], ...]


class Trust:
    """Who is believed to be the server: one context for all transports of one loop, whatever their keys.

    Reading the CAs takes 60 ms and 0.8 MiB: too much for each worker, and too long for a loop, so that `load` does it
    in another thread. They are read again where their files have changed. Two loops share no context: httpx writes to
    it at each connection.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: tuple[_Source, ssl.SSLContext] | None = None

    def load(self, base_url: str) -> None:
        """Read the CAs that connections to `base_url` need, unless they were read before."""
        if _needs_cas(base_url):
            self.context(base_url)

    def context(self, base_url: str) -> ssl.SSLContext:
        """The context for connections to `base_url`. For plain `http` it holds no CA and would trust nobody."""
        if not _needs_cas(base_url):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        source = _source()
        with self._lock:
            if self._made is None or self._made[0] != source:
                self._made = source, _with_cas()
            return self._made[1]


def _needs_cas(base_url: str) -> bool:
    return base_url.lower().startswith("https:")


def _with_cas() -> ssl.SSLContext:
    """The CAs are the system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; where the system has none, as
    in many slim images, those of `certifi`."""
    context = ssl.create_default_context()
    known = ssl.get_default_verify_paths()
    if not known.cafile and not (known.capath and any(os.scandir(known.capath))):
        import certifi  # what `import dspy_actors` need not load

        context.load_verify_locations(certifi.where())
    return context


def _source() -> _Source:
    """Where the CAs are and when they were changed last."""
    known = ssl.get_default_verify_paths()
    return tuple((path, os.stat(path).st_mtime if path else 0.0) for path in (known.cafile, known.capath))
