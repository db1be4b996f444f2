"""`Adapter`: what stands between a signature and a model's text. Pure: no thread, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from dspy_actors.adapters.field_listener import FieldListener
from dspy_actors.example import Example
from dspy_actors.messages import Message, ResponseFormat
from dspy_actors.signature.signature import Signature

Demo: TypeAlias = Mapping[str, Any] | Example
"""A demonstration: inputs and outputs of a signature by name; other names in it are left out of prompts."""


class Adapter(Protocol):
    """Renders a call as messages and reads the completion. `testing.adapters.check_adapter` is its contract.

    An adapter is shared by all threads and loops of a runtime, so it keeps no state but caches. One that derives from
    this class has `listener` and `options` already. What another than ours returns is checked in each call:
    `AdapterError` where it is none of what stands below.
    """

    @property
    def name(self) -> str:
        """A short name for events, errors and files."""
        ...

    def format(
        self, signature: type[Signature], demos: Sequence[Demo], inputs: Mapping[str, Any]
    ) -> tuple[Message, ...]:
        """The messages of one call. `inputs` were checked; demos in a tuple are taken as frozen."""
        ...

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The typed outputs, in declaration order. Raises `AdapterParseError` naming the first field at fault."""
        ...

    def listener(self, signature: type[Signature]) -> FieldListener | None:
        """Follows one answer while it is written; `None` where outputs are told only when all of it is there."""
        return None

    def options(self, signature: type[Signature], formats: frozenset[ResponseFormat]) -> Mapping[str, object]:
        """Options that the request is to be made with, under those of the LM and of the call.

        `formats` are the response formats that the model's provider can be held to.
        """
        return {}
