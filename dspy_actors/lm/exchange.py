"""`Exchange`: what is done with one attempt that has passed the gates; `Whole` waits for the whole answer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from dspy_actors.errors import LMError
from dspy_actors.lm.estimate import is_unanswered, prompt_tokens, said_tokens
from dspy_actors.lm.gates import Passing
from dspy_actors.lm.providers.base import Attempt, Provider
from dspy_actors.lm.work import Work
from dspy_actors.messages import LMResponse, Usage


class Exchange(Protocol):
    """One way to ask a provider. Lives on the io loop."""

    phase: str
    """What the call waits for while it is asked."""

    whole: bool
    """Whether it waits for the whole answer: then its times can be compared, and another may be asked beside it."""

    def ask(self, work: Work, attempt: Attempt, passing: Passing) -> Awaitable[LMResponse]:
        """Send one request. Raises an `LMError`."""
        ...

    def may_repeat(self) -> bool:
        """Whether another attempt may follow one that failed."""
        ...

    def usage(self, work: Work, response: LMResponse | None, failure: LMError | None) -> Usage | None:
        """What an attempt that was sent has used, whatever came of it; `None` where nothing is known."""
        ...


class Whole:
    """Asks for the whole answer at once."""

    phase = "model"
    whole = True

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def ask(self, work: Work, attempt: Attempt, passing: Passing) -> Awaitable[LMResponse]:
        """See `Exchange.ask`."""
        return self._provider.complete(work.request, attempt)

    def may_repeat(self) -> bool:
        """Always: nobody has seen anything of an answer that failed."""
        return True

    def usage(self, work: Work, response: LMResponse | None, failure: LMError | None) -> Usage | None:
        """See `Exchange.usage`."""
        usage = None if response is None else response.usage
        if usage is None and is_unanswered(failure):  # or answered without a count: the provider has read the prompt
            said = 0 if response is None else said_tokens(work.request, response)
            usage = Usage(prompt_tokens(work.request), said, estimated=True)
        return usage
