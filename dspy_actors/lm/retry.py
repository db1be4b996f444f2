"""When to try again: a pure policy. The worker owns the retries and is the only one that asks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dspy_actors.errors import LMError, LMTimeoutError
from dspy_actors.lm.verdicts import is_retryable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `num_retries` further attempts, after waits in seconds that grow from `base` to `cap`.

    Without word from the server the wait is drawn evenly from 0 to min(cap, base * 2^n), so that callers that failed
    together do not come back together. A `Retry-After` is kept to, plus up to a tenth of itself, as long as it is at
    most `longest` seconds and fits into the call's deadline; otherwise the error is final at once.
    """

    num_retries: int = 3
    base: float = 0.5
    cap: float = 8.0
    longest: float = 60.0
    timeouts: int = 1
    """How often an attempt that timed out is repeated: each costs the provider a whole answer."""

    def delay(self, attempt: int, error: LMError, remaining: float | None, rng: Random) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) ended in `error`, or `None` to give up.

        `remaining` is what is left of the call's deadline in seconds, `None` for no deadline.
        """
        allowed = min(self.num_retries, self.timeouts) if isinstance(error, LMTimeoutError) else self.num_retries
        if attempt > allowed or not is_retryable(error):
            return None
        asked = error.retry_after
        if asked is None:
            wait = rng.uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 32)))
        elif asked > self.longest:
            return None
        else:
            wait = asked + rng.uniform(0.0, asked / 10.0)
            if remaining is not None and asked < remaining <= wait:
                wait = asked
        return None if remaining is not None and wait >= remaining else wait
