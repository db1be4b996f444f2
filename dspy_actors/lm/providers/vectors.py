"""The dialect of OpenAI's embeddings, which local servers speak too: `model_type="embeddings"`.

Each turn of the request is a text, each text of the answer a vector, packed. So vectors take the way of every answer,
through cache, limits and retries.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from math import isfinite

from dspy_actors.errors import LMConfigurationError, LMUnsupportedFeatureError
from dspy_actors.lm.providers.dialect import (
    Assembler,
    JSONObject,
    count,
    counted,
    objects,
    options_of,
    text_or,
    unexpected,
)
from dspy_actors.lm.vector_text import MAX_TEXTS, unpack
from dspy_actors.messages import LMRequest, LMResponse, Usage


class Embeddings:
    """`POST /embeddings`."""

    path = "/embeddings"

    def body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.body`. Vectors are asked for in base64: 4 bytes a number instead of about 11."""
        options = options_of(request, ("model", "input", "encoding_format"))
        if len(request.messages) > MAX_TEXTS:
            msg = f"{len(request.messages)} texts in one request; at most {MAX_TEXTS}"
            raise LMConfigurationError(msg)
        texts = [message.text for message in request.messages]
        return {"model": request.model, "input": texts, "encoding_format": "base64", **options}

    def read(self, data: Mapping[str, object], request: LMRequest, request_id: str | None) -> LMResponse:
        """See `Dialect.read`. The vectors come in the order of the texts, by each one's `index`."""
        found = objects(data.get("data"))
        wanted = len(request.messages)
        if found is None or len(found) != wanted:
            raise unexpected(f"{'no' if found is None else len(found)} vectors for {wanted} texts")
        placed: list[str] = [""] * wanted
        for place, one in enumerate(found):
            index = one.get("index", place)
            if not isinstance(index, int) or not 0 <= index < wanted or placed[index]:
                raise unexpected(f"a vector for text {index!r:.20}, of which there is not exactly one")
            placed[index] = _packed(one.get("embedding"))
        if len(set(map(len, placed))) > 1:
            raise unexpected("vectors of different lengths")
        usage = data.get("usage")
        return LMResponse(
            tuple(placed),
            text_or(data.get("model"), request.model),
            _usage(usage) if isinstance(usage, dict) else None,
            request_id=request_id,
        )

    def stream_body(self, request: LMRequest) -> JSONObject:
        """See `Dialect.stream_body`: vectors come whole. Raises `LMUnsupportedFeatureError`."""
        raise LMUnsupportedFeatureError("vectors are not streamed; ask for them whole")

    def assembler(self, request: LMRequest) -> Assembler:
        """See `Dialect.assembler`. Raises as `stream_body` does."""
        raise LMUnsupportedFeatureError("vectors are not streamed; ask for them whole")


def _usage(usage: Mapping[str, object]) -> Usage | None:
    """The tokens of the texts. Some servers send their total alone; vectors are none."""
    prompt = count(usage.get("prompt_tokens")) or count(usage.get("total_tokens"))
    return counted(Usage(prompt_tokens=prompt))


def _packed(value: object) -> str:
    """The vector in base64, also from a server that sends a list of numbers. Raises `LMUnexpectedError`.

    So is one with `nan` or infinity in it refused, which some servers give for a text that their model overflows at:
    nothing can be near to it.
    """
    try:
        if isinstance(value, str) and isfinite(sum(unpack(value))):
            return value
        if isinstance(value, list) and value and isfinite(sum(value)):
            return base64.b64encode(struct.pack(f"<{len(value)}f", *value)).decode()
    except (binascii.Error, struct.error, ValueError, TypeError, OverflowError):
        pass
    raise unexpected("a vector that is no list of finite 32-bit floats")
