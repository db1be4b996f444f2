"""Where a provider's key comes from: a `Secret`, several, a callable, or the environment. Read at send time only.

What a refusal does to a key: it is read once more, if it could have changed; the same key again is set aside for a
minute, and the next of several takes its place. It is the key that is set aside, not where it comes from: the next call
reads again, and a new key is sent at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from dspy_actors.errors import LMConfigurationError, LMError, LMNotConfiguredError
from dspy_actors.lm.providers.base import KeySource, LMConfig
from dspy_actors.lm.providers.set_aside import SetAside, SetAsideKey
from dspy_actors.lm.verdicts import key_effect
from dspy_actors.secret import UNSENDABLE, Secret, may_be_sent, redacted

HANGS_SECONDS = 30.0
"""A callable that has not answered for so long is asked once more, in another thread."""

Asked: TypeAlias = "asyncio.Future[tuple[object, BaseException | None]]"
"""What a callable returned, or raised."""

ASK_SECONDS = 1.0
"""Between two questions to a callable whose key is set aside: it may be slow, or each may cost money."""


class KeyRing:
    """The keys of one provider. Lives on the io loop; a callable source runs in a thread of its own.

    A callable is the way to rotate keys: its answer is kept until the server refuses it, then it is asked once more,
    and so is the environment. While the key that it gave is set aside, the calls that come ask it again, once a second
    at most, and look into the environment each time. `variable` is the environment's name for the key, `None` for a
    provider that has none.
    """

    def __init__(
        self, config: LMConfig, endpoint: str, set_aside: SetAside, *, variable: str | None, required: bool
    ) -> None:
        self._config = config
        self._endpoint = endpoint
        self._set_aside = set_aside
        self._source: KeySource = config.api_key
        self._variable = variable
        self._required = required
        self._reading = asyncio.Lock()
        self._known = given_keys(config)
        self._doubted = False
        self._asked_at: float | None = None
        self._asking: Asked | None = None
        self._asking_since = 0.0
        self._changes = not isinstance(self._source, (Secret, tuple))
        self._reads = 0
        self.tries = max(2, len(self._known))
        """How many requests the refusal of one may lead to, itself included."""

    @property
    def at_hand(self) -> Secret | None:
        """The key to send, where that is known without a look; `None` says to ask `current`."""
        return self._known[0] if self._known and self._set_aside.empty and not self._doubted else None

    @property
    def key_id(self) -> str | None:
        """The id of the key that was sent last, `None` where none was: a key is read when it is first sent."""
        usable = [key.key_id for key in self._known if self._find(key) is None]
        return usable[0] if usable else self._known[-1].key_id if self._known else None

    async def current(self) -> Secret | None:
        """The key to send, `None` where none is needed: the first that is not set aside.

        Raises `LMNotConfiguredError` where it is needed and missing, `LMConfigurationError` if it cannot be sent, and
        the error that set the keys aside where all of them are.
        """
        if self.at_hand is not None:
            return self.at_hand
        if not self._known:
            await self._read_again(None)
        elif self._doubted or (self._changes and self._aside() is not None):
            self._doubted = False
            await self._read_again(self._known[0], ASK_SECONDS)
        if not self._known:
            if self._required:
                raise self._missing()
            return None
        aside = self._aside()
        if aside is not None:
            self._doubted = self._changes
            raise self._refusal(aside)
        return next(key for key in self._known if self._find(key) is None)

    async def refused(self, key: Secret | None, error: LMError) -> bool:
        """Book what the refusal of `key` means for it; whether another key can be sent in its place."""
        effect = key_effect(error)
        if effect == "none":
            return False
        if effect == "refused" and await self._read_again(key):
            return True
        if key is None:
            return False
        self._set_aside.add(self._endpoint, key.key_id, error)
        self._doubted = self._changes
        if self._asked_at is None:
            self._asked_at = self._set_aside.now()
        self._publish()
        return any(self._find(other) is None for other in self._known)

    async def _read_again(self, old: Secret | None, seconds: float = 0.0) -> bool:
        """Read a source that may have changed, unless somebody did since `old` was current; whether it has.

        A callable is not asked where somebody has asked it again less than `seconds` ago. Calls that are refused
        together read it once: those that wait for one who reads take what that one finds, be it the same key.
        """
        if not self._changes:
            return False
        reads = self._reads
        async with self._reading:
            is_read = self._reads != reads or self._has_asked(seconds)
            if (self._known[0] if self._known else None) == old and not is_read:
                if old is not None:
                    self._asked_at = self._set_aside.now()
                found = _sendable(await self._read(), self._config)
                self._known = () if found is None else (found,)
                self._reads += 1
                self._publish()
        return bool(self._known) and self._known[0] != old

    def _has_asked(self, seconds: float) -> bool:
        is_new = self._asked_at is not None and self._set_aside.now() - self._asked_at < seconds
        return is_new and callable(self._source)

    def _publish(self) -> None:
        """Tell of a callable whether the key that it gave last is set aside, for readiness and health."""
        if self._known and callable(self._source):
            self._set_aside.gave(self._source, self._endpoint, self._known[0].key_id)

    async def _read(self) -> str:
        if callable(self._source):
            return _told(*await self._ask(self._source), self._config)
        return os.environ.get(self._variable, "") if self._variable else ""

    async def _ask(self, source: Callable[[], object]) -> tuple[object, BaseException | None]:
        """What a callable returns or raises. One that is slower than who waits for it answers the next who does.

        Each call that is given up meanwhile would leave a thread behind, and none would ever have a key. A failure
        that nobody has heard of says nothing of a call that comes much later.
        """
        now, asking = self._set_aside.now(), self._asking
        if asking is None or (now - self._asking_since >= HANGS_SECONDS and not _has_key(asking)):
            asking = self._asking = _in_thread(source)
            self._asking_since = now
        found = await asyncio.shield(asking)
        self._asking = None
        return found

    def _find(self, key: Secret) -> SetAsideKey | None:
        return self._set_aside.find(self._endpoint, key.key_id)

    def _aside(self) -> SetAsideKey | None:
        """The key that comes back first, if all are set aside."""
        first: SetAsideKey | None = None
        for key in self._known:
            found = self._find(key)
            if found is None:
                return None
            if first is None or found.until < first.until:
                first = found
        return first

    def _refusal(self, aside: SetAsideKey) -> LMError:
        left = self._set_aside.left(aside)
        of, count = f"of {self._config.provider}", len(self._known)
        which = f"the key {of} is" if count == 1 else f"all {count} keys {of} are"
        msg = f"{which} set aside for {left:.0f} s more, nothing was sent: {aside.error}"
        return type(aside.error)(
            msg,
            provider=self._config.provider,
            model=self._config.model,
            status=aside.error.status,
            provider_code=aside.error.provider_code,
            retry_after=left,
        )

    def _missing(self) -> LMNotConfiguredError:
        where = f" or set {self._variable}" if self._variable else ""
        msg = f"{self._config.provider} at {self._endpoint} needs a key: pass api_key=...{where}"
        return LMNotConfiguredError(msg, provider=self._config.provider, model=self._config.model)


def given_keys(config: LMConfig) -> tuple[Secret, ...]:
    """The keys that stand in `config` itself. Raises `LMConfigurationError` for one that cannot be sent."""
    source = config.api_key
    given = (source,) if isinstance(source, Secret) else source if isinstance(source, tuple) else ()
    return tuple(key for one in given if (key := _sendable(one.reveal(), config)) is not None)


def _has_key(asking: Asked) -> bool:
    """Whether a callable that was asked has returned, and not raised."""
    return asking.done() and asking.result()[1] is None


def _told(found: object, failure: BaseException | None, config: LMConfig) -> str:
    """The key that a callable returned; raises what it raised, in our words."""
    if isinstance(failure, LMError):
        raise failure
    if failure is not None:  # the user's own code: whatever it raises means that there is no key
        msg = f"the api_key callable of {config.provider}/{config.model} raised {type(failure).__name__}"
        said = redacted(" ".join(str(failure)[:1000].split()))[:200]
        msg += f": {said}" if said else ""
    else:
        if isinstance(found, Secret):
            return found.reveal()
        if isinstance(found, str) and found.strip():
            return found
        what = "an empty string" if isinstance(found, str) else f"a {type(found).__name__}, no string"
        msg = f"the api_key callable of {config.provider}/{config.model} returned {what}"
    raise LMNotConfiguredError(msg, provider=config.provider, model=config.model)


def _in_thread(source: Callable[[], object]) -> Asked:
    """What `source` returns or raises, in a thread of its own: one that hangs holds up nobody and no end."""
    loop = asyncio.get_running_loop()
    asked: Asked = loop.create_future()

    def settle(found: object, failure: BaseException | None) -> None:
        if not asked.done():
            asked.set_result((found, failure))

    def ask() -> None:
        found: object = None
        failure: BaseException | None = None
        try:
            found = source()
        except BaseException as error:  # `sys.exit` too: it would end this thread, and leave the call to its deadline
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=ask, name="api_key", daemon=True).start()
    return asked


def _sendable(key: str, config: LMConfig) -> Secret | None:
    key = key.strip()
    if not key:
        return None
    if not may_be_sent(key):
        raise LMConfigurationError(f"the key {UNSENDABLE}", provider=config.provider, model=config.model)
    return Secret(key)
