"""`Adapter`: what stands between a signature and a model's text. Pure: no thread, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from dspy_actors.example import Example
from dspy_actors.messages import Message
from dspy_actors.signature.signature import Signature

Demo: TypeAlias = Mapping[str, Any] | Example
"""A demonstration: inputs and outputs of a signature by name; other names in it are left out of prompts."""


class Adapter(Protocol):
    """Renders a call as messages and reads the completion. `testing.adapters.check_adapter` is its contract.

    An adapter is shared by all threads and loops of a runtime, so it keeps no state but caches.
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
