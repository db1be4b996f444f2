"""`StreamSettings`: how long a stream may keep its reader waiting, and how much of it may wait for the reader."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dspy_actors.arguments import number, whole
from dspy_actors.errors import LMConfigurationError

LOADS_FIRST = "local"
"""The provider whose server may have to load the model before it answers."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The clocks and the buffer of every stream of a runtime. The call's deadline stands above them.

    Args:
        first_token: seconds from the request to the first piece; pings do not count.
        local_first_token: the same for the provider `local`, whose server may have to load its model first.
        idle: seconds of silence on the wire, once the answer has begun. The time that the reader takes is not silence.
        buffer_events: pieces that may wait for the reader before the socket is left alone.
        buffer_bytes: the same in characters.

    Raises:
        LMConfigurationError: a value that makes no sense.
    """

    first_token: float = 60.0
    local_first_token: float = 300.0
    idle: float = 30.0
    buffer_events: int = 64
    buffer_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        for name in ("first_token", "local_first_token", "idle"):
            value = getattr(self, name)
            number("StreamSettings", name, value)
            if not 0 < value < math.inf:
                msg = f"StreamSettings({name}={value!r}): more than 0 seconds"
                raise LMConfigurationError(msg)
        for name in ("buffer_events", "buffer_bytes"):
            whole("StreamSettings", name, getattr(self, name), least=1)

    def patience(self, provider: str) -> float:
        """Seconds to the first piece of `provider`."""
        return self.local_first_token if provider == LOADS_FIRST else self.first_token
