"""What a provider is: an `LMRequest` in, an `LMResponse` or a typed `LMError` out, one HTTP request each.

A provider lives on the io loop. It owns an endpoint and its keys, speaks a dialect (URLs, JSON, error bodies, key
header) and does nothing else: retries, deadlines, caching and counting belong to the worker in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.servers import Servers
from dspy_actors.lm.providers.set_aside import SetAside
from dspy_actors.lm.transports.base import Transport, bare
from dspy_actors.lm.transports.observer import NOBODY, Observer
from dspy_actors.lm.transports.urls import fault_of
from dspy_actors.messages import LMRequest, LMResponse, Usage
from dspy_actors.pieces import Piece
from dspy_actors.secret import Secret

KeySource: TypeAlias = Secret | tuple[Secret, ...] | Callable[[], str] | None


@dataclass(frozen=True, slots=True)
class LMConfig:
    """Which model, where, with which key. Equal configs may share a provider.

    `timeout` is how many seconds one attempt may take, `None` for the transport's own bounds. Of several keys the first
    that is not set aside is used. A callable `api_key` is asked on a thread of its own, when the provider first needs
    the key and again when the server refuses the old one.
    """

    provider: str
    model: str
    base_url: str | None = None
    api_key: KeySource = field(default=None, repr=False)
    timeout: float | None = None


class _Same:
    """An object by its identity: a callable need not be hashable. Kept alive, so that no other one takes its place."""

    __slots__ = ("_held",)

    def __init__(self, held: object) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._held is self._held

    def __hash__(self) -> int:
        return id(self._held)


def key_name(key: KeySource) -> Hashable:
    """What is equal for equal keys; a callable is equal to itself. It is no text and says nothing of the key."""
    return _Same(key) if callable(key) else key


@dataclass(slots=True)  # not frozen, which would treble what it costs to make one
class Attempt:
    """One try at one request; nobody changes it.

    `request_id` goes out as `X-Request-Id`; `number` counts from 1; `deadline` is an instant of `loop.time()`;
    `observer` follows its requests. A provider hands it on to its transport; one that has no transport tells it itself
    when the whole request is on its way, and whoever would send it once more asks it first: the budget may be spent.

    Two bounds are for streams only, in seconds, `None` for the transport's own: `first_byte` is how long the server may
    take to begin its answer, `idle` the longest silence in it while somebody reads.
    """

    request_id: str
    number: int = 1
    deadline: float | None = None
    observer: Observer = NOBODY
    first_byte: float | None = None
    idle: float | None = None


class ProviderStream(Protocol):
    """An answer that the server has begun. Lives on the io loop; one task at a time reads.

    Whoever has it closes it, also after its end and after an error; dropped, it keeps its connection.

    One whose pieces come fast may have `async def pour(self, write: Callable[[Sequence[Piece]], bool]) -> bool` too:
    reads on and hands the pieces to `write` as they come, until that has no room for more (True) or to the clean end
    (False). It is used in place of reads once the first piece was read, and saves a turn of the loop for each.
    """

    @property
    def usage(self) -> Usage | None:
        """Tokens, as far as the server has told; whole after the clean end of most."""
        ...

    @property
    def text(self) -> str:
        """The text of the first choice, as far as it was read."""
        ...

    async def read(self) -> Sequence[Piece]:
        """The next pieces, at least one; `()` at the clean end, and again after it.

        Raises an `LMError` with provider, model, request id and `partial` filled in; after it the stream is closed.
        It waits as long as bytes arrive, be they signs of life only: how long a piece may take is the caller's to
        bound. Cancelled, it closes the connection.
        """
        ...

    def response(self) -> LMResponse:
        """The whole answer, after the clean end: the same as `complete` would have given. `RuntimeError` before."""
        ...

    async def aclose(self) -> None:
        """Drop what has not been read, and the connection with it. Twice is fine."""
        ...


class Provider(Protocol):
    """One dialect at one endpoint. `endpoint` tells apart what must not share a cache entry, as two base URLs."""

    name: str
    endpoint: str

    async def complete(self, request: LMRequest, attempt: Attempt) -> LMResponse:
        """Ask once. Raises an `LMError`, with the provider's name and the model filled in, and nothing else.

        Where the option `model_type` is `"embeddings"` each message is a text, and the answer has a vector for each in
        its `texts`, written as `vector_text` says.
        """
        ...

    async def stream(self, request: LMRequest, attempt: Attempt) -> ProviderStream:
        """Ask once for an answer in pieces; returns when the server has begun it. Raises as `complete` does.

        A provider without streams of its own gives `whole_stream.streamed_whole(await self.complete(...))`; one that
        lacks the method is asked for the whole answer, which is then a stream of one piece.
        """
        ...

    async def aclose(self) -> None:
        """Close what the provider opened; closing twice is fine."""
        ...


OpenTransport: TypeAlias = Callable[[str], Transport]
"""Opens the transport of one base URL; called on the io loop, once a provider."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a provider is given to start with. One that needs no network never calls `transport`.

    `set_aside` is where refused keys are noted and `servers` what servers close by are seen to be, both shared by all
    providers of a runtime.
    """

    transport: OpenTransport
    set_aside: SetAside = field(default_factory=SetAside)
    servers: Servers = field(default_factory=Servers)


class ProviderFactory(Protocol):
    """Makes a provider; called on the io loop."""

    def __call__(self, config: LMConfig, opening: Opening) -> Provider: ...


_LONGEST_URL = 8000
"""Characters: more than any server takes, fewer than HTTP clients stumble over."""


def checked_base_url(config: LMConfig, default: str) -> str:
    """The config's base URL, or `default`, without a trailing slash.

    Raises `LMConfigurationError` for what is no http(s) URL, for one that is endless or that no transport could ask
    (`urls.fault_of`), and for one with a user, a query or a fragment in it.
    """
    url = (config.base_url or default).rstrip("/")
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0 and len(url) <= _LONGEST_URL
    except ValueError:
        whole, parts = False, urlsplit("")
    if parts.scheme not in ("http", "https") or not whole:
        msg = f"base_url {config.base_url!r:.200} is no http(s) URL; write it as 'http://localhost:8000/v1'"
        raise LMConfigurationError(msg, provider=config.provider, model=config.model)
    if "@" in parts.netloc or parts.query or parts.fragment:
        msg = "a base_url holds no user, query or fragment: a key belongs in api_key"
        raise LMConfigurationError(msg, provider=config.provider, model=config.model)
    fault = fault_of(url)
    if fault is not None:
        raise LMConfigurationError(
            f"base_url {bare(url)!r:.200}: {fault}", provider=config.provider, model=config.model
        )
    return url
