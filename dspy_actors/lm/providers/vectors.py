"""The dialect of OpenAI's embeddings, which local servers speak too."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping

from dspy_actors.lm.providers.dialect import JSONObject, count, objects, text_or, unexpected
from dspy_actors.messages import EmbeddingRequest, EmbeddingResponse, Usage

PATH = "/embeddings"

MAX_TEXTS = 2048
"""How many texts one request may hold. Source: OpenAI's API description."""


def embeddings_body(request: EmbeddingRequest) -> JSONObject:
    """The request as JSON data. Vectors are asked for in base64: 4 bytes a number instead of about 11."""
    body: JSONObject = {"model": request.model, "input": list(request.texts), "encoding_format": "base64"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def read_embeddings(data: Mapping[str, object], request: EmbeddingRequest, request_id: str | None) -> EmbeddingResponse:
    """The vectors in the order of the texts, by each one's `index`. Raises `LMUnexpectedError`."""
    found = objects(data.get("data"))
    if found is None or len(found) != len(request.texts):
        said = "no" if found is None else len(found)
        raise unexpected(f"{said} vectors for {len(request.texts)} texts")
    placed: list[tuple[float, ...] | None] = [None] * len(found)
    for place, one in enumerate(found):
        index = one.get("index", place)
        if not isinstance(index, int) or not 0 <= index < len(placed) or placed[index] is not None:
            raise unexpected(f"a vector for text {index!r:.20}, of which there is not exactly one")
        placed[index] = _vector(one.get("embedding"))
    vectors = tuple(vector for vector in placed if vector is not None)
    if len({len(vector) for vector in vectors}) > 1:
        raise unexpected("vectors of different lengths")
    usage = data.get("usage")
    return EmbeddingResponse(
        vectors,
        text_or(data.get("model"), request.model),
        Usage(prompt_tokens=count(usage.get("prompt_tokens"))) if isinstance(usage, dict) else None,
        request_id,
    )


def _vector(value: object) -> tuple[float, ...]:
    """Little-endian 32-bit floats in base64, or a list of numbers from a server that does not know base64."""
    if isinstance(value, str):
        try:
            raw = base64.b64decode(value, validate=True)
            return struct.unpack(f"<{len(raw) // 4}f", raw)
        except (binascii.Error, struct.error, ValueError):
            raise unexpected("a vector that is no base64 of 32-bit floats") from None
    if isinstance(value, list) and all(isinstance(one, (int, float)) for one in value):
        return tuple(map(float, value))
    raise unexpected("a vector that is no list of numbers")
