"""What passes between a caller and an LM worker: `Work` in, `Answer` back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Literal, TypeAlias

from dspy_actors.errors import LMError
from dspy_actors.lm.account import Account
from dspy_actors.lm.hedge import Hedge
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest, LMResponse

Source: TypeAlias = Literal["model", "cache", "flight"]


@dataclass(slots=True, eq=False)  # not frozen, which would treble what it costs to make one
class Work:
    """One question on its way to a worker; nobody changes it.

    `until` says how long somebody waits for the answer, an instant of the runtime's clock in seconds. It changes while
    callers come and go, so it does not bound the attempts of a `shared` question: when nobody waits they are cancelled.
    A stream's attempts are cancelled too when its time is over, so it counts as shared. `numbers` are the call's.
    """

    request: LMRequest
    call_id: str
    until: Callable[[], float | None]
    shared: bool
    num_retries: int
    timeout: float | None
    account: Account = field(default_factory=Account)
    hedge: Hedge | None = None
    numbers: Iterator[int] = field(default_factory=partial(count, 1))


@dataclass(slots=True)  # as above
class Answer:
    """A model's answer and where it came from; nobody changes it, for others may have the same one.

    `attempts` is how many requests were sent for it: 0 from the cache, and for those who joined an equal call; those
    to models that failed before it are counted. `model` names who gave it, where the LM asked has fallbacks, and `met`
    is the infrastructure's failure for which another model was asked, if there was one.
    """

    response: LMResponse
    source: Source = "model"
    attempts: int = 1
    model: str | None = None
    met: LMError | None = None


def credited(answer: Answer, lm: LM, attempts: int, errors: Sequence[LMError]) -> Answer:
    """The answer that `lm` gave, one of several in turn, after `attempts` requests and `errors` of those before it."""
    met = next((error for error in errors if error.infrastructure), None)
    return replace(answer, model=lm.name, attempts=answer.attempts + attempts, met=met)
