"""`PoolSettings`: how many workers stand ready for a provider's models, and when those that nobody uses are ended."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.arguments import numbers, wholes
from dspy_actors.errors import LMConfigurationError


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many workers a provider may have: one stands for each model, endpoint, key and timeout that was called.

    A worker that ended is started again by the next call for it; its connections are new then, and so is what its
    limiter and its breakers had learned, once nothing of it counts: a limiter is kept until all that was taken from it
    has come back and its last pause is over (ten minutes longer where no answer came after that), a breaker until its
    window is empty, a retry budget until it is full. One with a call under way is never ended.

    Args:
        keep: so many of those used last stand for good.
        idle_seconds: the others end when nobody has called them for so long.
        most: a worker more than so many ends another at once: the idle one called longest ago, or, where none is
            idle, one that is busy, as soon as its calls are over. So no more than `most` stand idle, but for fresh ones
            that wait for their first call, a second at most. How many are busy is not bounded: as many as keys and
            models are called at once. An idle worker holds a descriptor for each connection that it had open at once,
            for 30 seconds; the default leaves half of the 1,024 that many systems allow a process.

    Raises `LMConfigurationError` for a value that makes no sense.
    """

    keep: int = 64
    idle_seconds: float = 300.0
    most: int = 512

    def __post_init__(self) -> None:
        wholes("PoolSettings", least=0, keep=self.keep)
        wholes("PoolSettings", least=1, most=self.most)
        numbers("PoolSettings", above=0, idle_seconds=self.idle_seconds)
        if self.keep > self.most:
            msg = f"PoolSettings(keep={self.keep}): at most `most`, which is {self.most}"
            raise LMConfigurationError(msg)
