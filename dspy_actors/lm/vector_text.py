"""How a vector stands in the text of an answer: its 32-bit floats in base64, little end first."""

from __future__ import annotations

import base64
import struct

MAX_TEXTS = 2048
"""How many texts one request for vectors may hold. Source: OpenAI's API description."""

_FLOAT = 4


def unpack(vector: str) -> list[float]:
    """The numbers of one text of an answer. Raises `ValueError` where it is no vector."""
    raw = base64.b64decode(vector, validate=True)
    if not raw or len(raw) % _FLOAT:
        msg = f"{len(raw)} bytes are no 32-bit floats"
        raise ValueError(msg)
    return list(struct.unpack(f"<{len(raw) // _FLOAT}f", raw))
