"""`History`: the earlier turns of a conversation as a field of a signature."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class History(BaseModel):
    """Earlier turns: each message is a dict of the signature's input and output fields.

    An adapter writes each as a user turn and an assistant turn before the request instead of as a value in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[dict[str, Any]]
