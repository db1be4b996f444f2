"""What the tests of the quarantine share: a model with inputs that break it, and runtimes on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy_actors.errors import LMContentFilterError, LMError
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.quarantine.settings import QuarantineSettings
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Scripted, ScriptedProvider
from supervisors.clock import ManualClock
from tests.dspy_actors.programs import asked, says

MODEL = LM("scripted/m", cache=False, num_retries=0)


class Sick:
    """A model that answers everything but what is in `poison`, for which it raises or says what is written there."""

    def __init__(self, **poison: Scripted) -> None:
        self.poison: dict[str, Scripted] = dict(poison)
        self.down: Callable[[], LMError] | None = None
        self.provider = ScriptedProvider(self._answer)

    def _answer(self, request: LMRequest) -> Scripted:
        if self.down is not None:
            return self.down()
        question = asked(request)
        return self.poison.get(question, says(answer=question))

    @property
    def sent(self) -> int:
        return len(self.provider.requests)

    def runtime(self, clock: ManualClock | None = None, lm: LM = MODEL, **options: Any) -> Runtime:
        """A runtime, not started, that asks this model. Settings of the quarantine are given by their names."""
        own = {name: options.pop(name) for name in ("threshold", "seconds", "entries", "path") if name in options}
        return Runtime(
            lm, open_provider=lambda config: self.provider, quarantine=QuarantineSettings(**own), clock=clock, **options
        )


def filtered() -> LMContentFilterError:
    """A refusal that speaks against the input."""
    return LMContentFilterError("refused by policy", provider="scripted", model="m")


def kinds(program: Program, question: str, count: int = 1) -> list[str]:
    """How `count` calls end, one after the other: `ok`, or the error's kind."""
    return [ended(program.safe_call(question=question)) for _ in range(count)]


def ended(outcome: Outcome) -> str:
    if outcome.ok:
        return "ok"
    error = outcome.error
    return str(getattr(error, "kind", type(error).__name__))
