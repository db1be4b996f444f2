"""`EndpointBreaker`: the breaker of everything at one endpoint, which one bad model there does not open. Pure."""

from __future__ import annotations

from random import Random

from dspy_actors.lm.breaker import NOTHING, Breaker, Changed, Permit, Verdict
from dspy_actors.lm.breaker_settings import BreakerSettings


class EndpointBreaker(Breaker):
    """A breaker above those of the models at one endpoint. It counts what says something of the endpoint itself.

    A request that got no answer counts, whichever model it was for. A failure that the server answered, or an answer
    that came too late, counts only while another model fails in that way too: its last answer was such a one, at most
    `window_seconds` ago. Until then it is that model's own, whose breaker sees to it; a probe that ends so gives its
    lease back, for what it says is neither that the endpoint is well nor that it is not.
    """

    __slots__ = ("_failing",)

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        rng: Random | None = None,
        changed: Changed | None = None,
    ) -> None:
        super().__init__(name, settings, rng=rng, changed=changed)
        self._failing: dict[str, float] = {}  # the models whose last answer was a failure, and when it came

    def answered_by(self, model: str, permit: Permit, seconds: float, now: float) -> None:
        """A call to `model` was answered, after `seconds`; as `answered` has it."""
        if seconds > self.settings.slow_seconds:
            if not self._is_of_all(model, now):
                self._answered = now
                self.report(permit, NOTHING, now)
                return
        elif self._failing:
            self._failing.pop(model, None)
        self.answered(permit, seconds, now)

    def begun_by(self, model: str, permit: Permit, seconds: float, now: float) -> Permit:
        """The answer to a call to `model` began, after `seconds`; as `begun` has it."""
        if not self._has_lease(permit):
            return permit
        self.answered_by(model, permit, seconds, now)
        return self._after(permit)

    def failed_by(self, model: str, permit: Permit, verdict: Verdict, now: float, failure: str | None) -> None:
        """The server answered a call to `model` with a failure; as `report` has it."""
        if self._is_of_all(model, now):
            self.report(permit, verdict, now, failure)
        else:
            self.report(permit, NOTHING, now)

    def reset(self) -> None:
        """See `Breaker.reset`; no model is remembered as failing either."""
        self._failing.clear()
        super().reset()

    def is_at_rest(self, now: float) -> bool:
        """See `Breaker.is_at_rest`; and no model that failed is remembered."""
        return super().is_at_rest(now) and all(self._is_old(at, now) for at in list(self._failing.values()))

    def _is_of_all(self, model: str, now: float) -> bool:
        """Note that `model` failed; whether another one does."""
        for name, at in list(self._failing.items()):
            if self._is_old(at, now):
                self._failing.pop(name, None)
        self._failing[model] = now
        return len(self._failing) > 1

    def _is_old(self, at: float, now: float) -> bool:
        return now - at >= self.settings.window_seconds
