"""`CallRecord`: what the call of a program was."""

from __future__ import annotations

from dataclasses import dataclass

from dspy_actors.messages import Truncation, Usage
from dspy_actors.old_pickles import reads_old_pickles
from dspy_actors.quick_init import quick_init


@reads_old_pickles
@quick_init
@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a call was: tokens, cost in US dollars, HTTP attempts, and which model and parameters answered.

    A call that joined an equal one under way has its answer and none of its cost: as from the cache no `usage` and no
    `attempts`, but it is not `cached`.

    `truncated` says what cut an answer off that the outputs rest on, if one was: one of them may end in the middle, or
    was made of what does. Of a program's prediction that is any answer of its call, of whichever predictor, also one
    that the program got over; the other predictors' own predictions do not say it.

    `call_id` joins it to the events of the call and of its requests, and to the `X-Request-Id` that the provider logs;
    `None` where no call of a started program made it.
    """

    usage: Usage | None = None
    cost: float | None = None
    attempts: int = 0
    cached: bool = False
    model: str | None = None
    version: int | None = None
    truncated: Truncation | None = None
    call_id: str | None = None
