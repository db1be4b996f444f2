"""The strict check of an embedding request's body, by OpenAI's published API description."""

from __future__ import annotations

from typing import Any

from tests.server.validate import Check, Refused, check_options, integer, kind_of, one_of

OPTIONS: dict[str, Check] = {
    "dimensions": integer(1, 100_000),
    "encoding_format": one_of("float", "base64"),
    "user": kind_of(str),
}


def check_embeddings(body: Any) -> dict[str, Any]:
    """The body, if OpenAI would take it; else `Refused`."""
    asked = check_options(body, ("input",), OPTIONS)["input"]
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not 1 <= len(texts) <= 2048:
        raise Refused("'input' must be a string or a list of 1 to 2048 of them", "input", "invalid_value")
    if not all(isinstance(text, str) and text for text in texts):
        raise Refused("'input' cannot hold an empty string", "input", "invalid_value")
    return dict(body)
