"""`Guarding`: how the LM layer protects itself and its providers, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dspy_actors.arguments import a, tables_of
from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.breaker_settings import BreakerSettings
from dspy_actors.lm.fairness import Fairness
from dspy_actors.lm.limiter import LimiterSettings
from dspy_actors.lm.providers.table import PROVIDERS
from dspy_actors.lm.retry_budget import RetryBudgetSettings


@dataclass(frozen=True, slots=True)
class Guarding:
    """Settings of breakers, limiters, fairness and retry budgets; each part checks its own values.

    `breaker` holds for a model at an endpoint, `provider_breaker` for everything at that endpoint: an outage of the
    account or the server stops all its models at once. The latter counts requests that got no answer whichever model
    they were for, and failures that the server answered (5xx), or answers that were slow, only while more than one
    model there ends in them: one bad model behind a gateway is its own breaker's matter, and its siblings go on.
    `limiter` holds for every model and key, unless `limiters` has the model, as `openai/gpt-4o-mini`, or its provider,
    as `openai`; a `Runtime` refuses names that no call of it could have. `fairness` is how those who wait share one.

    Raises `LMConfigurationError` for a part that is of another kind.
    """

    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    provider_breaker: BreakerSettings = field(default_factory=lambda: BreakerSettings(minimum=20))
    limiter: LimiterSettings = field(default_factory=LimiterSettings)
    limiters: Mapping[str, LimiterSettings] = field(default_factory=dict)
    fairness: Fairness = field(default_factory=Fairness)
    retry_budget: RetryBudgetSettings = field(default_factory=RetryBudgetSettings)

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            a(kind, "Guarding", name, getattr(self, name), f"a {kind.__name__}")
        tables_of(LimiterSettings, "Guarding", limiters=self.limiters)

    def limits_of(self, provider: str, model: str) -> LimiterSettings:
        """The limiter's settings for a model: its own, its provider's, or everybody's."""
        return self.limiters.get(f"{provider}/{model}") or self.limiters.get(provider) or self.limiter

    def check_limiters(self, *, ours: bool) -> None:
        """Raise `LMConfigurationError` for a name in `limiters` that no call can have: its limit would hold for nobody.

        `ours` says that the models are asked by our own providers. One's own may have any name, `gpt-4o` too.
        """
        for name in self.limiters:
            provider, slash, model = name.partition("/") if isinstance(name, str) else ("", "", "")
            if provider and (model or not slash) and (provider in PROVIDERS or not ours):
                continue
            known = f"one of {', '.join(sorted(PROVIDERS))}" if ours else "the name that your LMs begin with"
            msg = (
                f"Guarding(limiters[{name!r:.80}]=...): no call would find it; the name is provider/model, as "
                f"'openai/gpt-4o', or the provider alone, which is {known}"
            )
            raise LMConfigurationError(msg)


_PARTS: Mapping[str, type] = {
    "breaker": BreakerSettings,
    "provider_breaker": BreakerSettings,
    "limiter": LimiterSettings,
    "limiters": Mapping,
    "fairness": Fairness,
    "retry_budget": RetryBudgetSettings,
}
