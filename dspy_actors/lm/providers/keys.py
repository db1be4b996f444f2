"""Where a provider's key comes from: a `Secret`, a callable, or an environment variable. Read at send time only."""

from __future__ import annotations

import asyncio
import os

from dspy_actors.errors import LMConfigurationError, LMError, LMNotConfiguredError
from dspy_actors.lm.providers.base import KeySource, LMConfig
from dspy_actors.secret import Secret


class KeyRing:
    """The key of one provider. Lives on the io loop; a callable source runs on the loop's helper threads.

    A callable is the way to rotate keys: its answer is kept until the server refuses it, then it is asked once more.
    """

    def __init__(self, config: LMConfig, *, variable: str, required: bool) -> None:
        self._config = config
        self._source: KeySource = config.api_key
        self._variable = variable
        self._required = required
        self._known: Secret | None = config.api_key if isinstance(config.api_key, Secret) else None

    async def current(self) -> Secret | None:
        """The key to send, `None` where none is needed.

        Raises `LMNotConfiguredError` where it is needed and missing, `LMConfigurationError` if it cannot be sent.
        """
        if self._known is None:
            self._known = _sendable(await self._read(), self._config)
        if self._known is None and self._required:
            msg = f"{self._config.provider} needs a key: pass api_key=... or set {self._variable}"
            raise LMNotConfiguredError(msg, provider=self._config.provider, model=self._config.model)
        return self._known

    async def replaced(self, refused: Secret | None) -> bool:
        """Ask a callable source again after the server refused `refused`; whether there is another key now."""
        if not callable(self._source):
            return False
        if self._known == refused:
            self._known = _sendable(await self._read(), self._config)
        return self._known is not None and self._known != refused

    async def _read(self) -> str:
        if callable(self._source):
            return await _ask(self._source, self._config)
        if isinstance(self._source, Secret):
            return self._source.reveal()
        return os.environ.get(self._variable, "")


async def _ask(source: KeySource, config: LMConfig) -> str:
    assert callable(source)
    try:
        found: object = await asyncio.to_thread(source)
    except LMError:
        raise
    except Exception as error:  # the user's own code: whatever it raises means that there is no key
        msg = f"the api_key callable of {config.provider}/{config.model} raised {type(error).__name__}"
    else:
        if isinstance(found, Secret):
            return found.reveal()
        if isinstance(found, str):
            return found
        msg = f"the api_key callable of {config.provider}/{config.model} returned a {type(found).__name__}, no string"
    raise LMNotConfiguredError(msg, provider=config.provider, model=config.model)


def _sendable(key: str, config: LMConfig) -> Secret | None:
    key = key.strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        msg = "the key holds characters that an HTTP header cannot hold; was it cut or pasted with its line break?"
        raise LMConfigurationError(msg, provider=config.provider, model=config.model)
    return Secret(key)
