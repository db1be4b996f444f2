"""How a cached answer is written to disk: msgpack, compressed where it is long; never pickle."""

from __future__ import annotations

import zlib

import msgpack  # type: ignore[import-untyped]

from dspy_actors.messages import LMResponse, ToolCall, Usage

COMPRESS_ABOVE = 2048
"""Bytes from which an entry is compressed."""

_PLAIN, _SQUEEZED = b"\x00", b"\x01"
_ANY = "surrogatepass"
"""Half a surrogate is what JSON leaves of an emoji that a server has cut in two."""


class UnreadableEntry(ValueError):
    """A stored entry that this release cannot read; it counts as a miss."""


def encode(response: LMResponse) -> bytes:
    """An answer as bytes. Raises `ValueError`, `TypeError` or `OverflowError` for one that msgpack cannot hold."""
    usage = response.usage
    counted = None
    if usage is not None:
        counted = [
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.reasoning_tokens,
            usage.estimated,
        ]
    calls = [[[call.id, call.name, call.arguments] for call in one] for one in response.tool_calls]
    fields = [response.texts, response.model, counted, response.finish_reasons, response.request_id, calls]
    packed = msgpack.packb(fields, use_bin_type=True, unicode_errors=_ANY)
    assert isinstance(packed, bytes)
    return _PLAIN + packed if len(packed) <= COMPRESS_ABOVE else _SQUEEZED + zlib.compress(packed, 1)


def decode(data: bytes) -> LMResponse:
    """The answer that `encode` wrote. Raises `UnreadableEntry`."""
    try:
        body = data[1:] if data[:1] == _PLAIN else zlib.decompress(data[1:])
        texts, model, counted, reasons, request_id, calls = msgpack.unpackb(body, raw=False, unicode_errors=_ANY)
        return LMResponse(
            texts=tuple(str(text) for text in texts),
            model=str(model),
            usage=None if counted is None else Usage(*counted),
            finish_reasons=tuple(str(reason) for reason in reasons),
            request_id=None if request_id is None else str(request_id),
            tool_calls=tuple(tuple(ToolCall(*call) for call in one) for one in calls),
        )
    except (ValueError, TypeError, zlib.error, msgpack.UnpackException) as error:
        msg = "a cache entry cannot be read"
        raise UnreadableEntry(msg) from error
