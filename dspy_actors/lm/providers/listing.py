"""`Listing`: which models a server has, asked with the key that calls are made with. It costs no tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dspy_actors.errors import LMTimeoutError, LMTransportError
from dspy_actors.lm.classify import is_answer
from dspy_actors.lm.providers.wire import Wire
from dspy_actors.lm.transports.base import HTTPRequest, HTTPResponse
from dspy_actors.secret import Secret

_NO_SUCH_PAGE = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Listing:
    """The ids of the models, `None` where the server has no list.

    `is_whole` is false where the server told the first page only.
    """

    models: frozenset[str] | None
    is_whole: bool = True

    def has(self, model: str) -> bool | None:
        """Whether the server has `model`, also under a date or a tag of it; `None` where that cannot be told."""
        if self.models is None:
            return None
        of_it = re.compile(re.escape(model) + r"(-\d{8}|-\d{4}-\d{2}-\d{2}|:\w+)?")
        return True if any(of_it.fullmatch(each) for each in self.models) else False if self.is_whole else None


@runtime_checkable
class Lists(Protocol):
    """A provider whose server can be asked what it has."""

    @property
    def key_id(self) -> str | None:
        """The id of the key that was sent last, `None` where none was."""
        ...

    async def listing(self, deadline: float | None = None) -> Listing:
        """Ask. Raises an `LMError`, as a call would; `deadline` is an instant of `loop.time()`."""
        ...


async def list_models(wire: Wire, path: str, deadline: float | None, model: str) -> Listing:
    """`GET` the list at `path`. A refused key is replaced where there is another one, as for calls."""
    tries = wire.keys.tries
    while True:
        tries -= 1
        key = await wire.keys.current()
        answer = await _get(wire, path, deadline, model, key)
        if answer.status in _NO_SUCH_PAGE:
            return Listing(None)
        data = _read(answer.body) if is_answer(answer.status) else None
        if isinstance(data, dict) and not data.get("error"):
            return Listing(_ids(data), data.get("has_more") is not True)
        error = wire.refusal(answer, data, model, key)
        if not await wire.keys.refused(key, error) or tries <= 0:
            raise error


async def _get(wire: Wire, path: str, deadline: float | None, model: str, key: Secret | None) -> HTTPResponse:
    headers = wire.headers if key is None else {**wire.headers, **wire.key_headers(key.reveal())}
    try:
        return await wire.transport.send(HTTPRequest("GET", wire.endpoint + path, headers), deadline=deadline)
    except (LMTransportError, LMTimeoutError) as error:
        error.provider, error.model = wire.name, model
        raise


def _read(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _ids(data: dict[str, object]) -> frozenset[str] | None:
    found = data.get("data")
    if not isinstance(found, list):
        return None
    return frozenset(str(each["id"]) for each in found if isinstance(each, dict) and "id" in each)
