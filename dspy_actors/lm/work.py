"""What passes between a caller and an LM worker: `Work` in, `Answer` back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, TypeAlias

from dspy_actors.envelope import CLASSES, Envelope, Priority
from dspy_actors.errors import LMError
from dspy_actors.lm.budget import Amount, Hold
from dspy_actors.lm.lm import LM
from dspy_actors.messages import LMRequest, LMResponse
from supervisors.published_lock import PublishedLock, free_after_fork

Source: TypeAlias = Literal["model", "cache", "flight"]

_LOCK = free_after_fork(PublishedLock())
"""One for all, as it is held for a sum at most and there are thousands of them at once."""

_NOTHING = Amount()
_A_REQUEST = Amount(requests=1)


class Work:
    """One question on its way through every attempt and every worker: where it stands, what it has cost so far.

    Written on the io loop, read when the call ends; what attempts cost that were given up is counted too.

    `phase` is what the call waits for: its `worker`, the `limiter`, the `model`, or the `backoff` between attempts; a
    stream's instead of `model` the `first_token`, the rest of the `stream`, or its `consumer`. `priority` is the
    envelope's, until one `hurried` it, which is told when the call has become more urgent. `hold` is what is set aside
    for it, where its tenant or its session has a budget; only there anything is `spent`, and attempts are counted that
    are `under_way`.
    """

    __slots__ = (
        "_attempts",
        "_late",
        "_let_go",
        "envelope",
        "hold",
        "hurried",
        "lm",
        "phase",
        "priority",
        "request",
        "spent",
        "under_way",
    )

    def __init__(self, lm: LM, request: LMRequest, envelope: Envelope) -> None:
        self.lm = lm
        self.request = request
        self.envelope = envelope
        self.priority: Priority = envelope.priority
        self.hurried: Callable[[Priority], object] | None = None
        self.hold: Hold | None = None
        self.phase = "worker"
        self.spent = _NOTHING
        self.under_way = 0
        self._attempts: dict[object, None] | None = None  # made with the first that is counted
        self._late: Callable[[Amount], object] | None = None
        self._let_go: Callable[[], object] | None = None

    def until(self) -> float | None:
        """How long anybody waits for the answer: an instant of the runtime's clock in seconds."""
        return self.envelope.deadline

    def is_shared(self) -> bool:
        """Whether `until` may move: it bounds no attempt then; all are cancelled when nobody waits any more."""
        return False

    def hurry(self, priority: Priority) -> None:
        """One of that class waits for the answer too: a more urgent one carries the call along. Any thread."""
        with _LOCK:
            if CLASSES.index(priority) >= CLASSES.index(self.priority):
                return
            self.priority = priority  # then look: who begins to wait does it the other way round
        hurried = self.hurried
        if hurried is not None:
            hurried(priority)

    def charge(self, tokens: int, money: Decimal | None) -> None:
        """Book one request that was sent, where there is a budget to hold it to."""
        if self.hold is None:
            return
        amount = Amount(tokens, money or Decimal(0), 1)
        with _LOCK:
            while True:
                before = self.spent
                total = before + amount
                if self.spent is before:  # not so where a dropped attempt was ended, and booked, as the sum was made
                    self.spent = total
                    break
            late = self._late
        if late is not None:
            late(amount)

    def cover(self, requests: int) -> None:
        """So many requests are under way or about to be sent: have set aside what all may cost.

        Raises `BudgetExceeded` where that is too much.
        """
        if self.hold is not None:
            self.hold.cover(self.spent, requests)

    def cover_again(self) -> None:
        """A request came to nothing and is booked: have set aside what another one in its place may cost.

        Raises `BudgetExceeded` where that is too much.
        """
        if self.hold is not None:
            self.hold.again(_A_REQUEST)

    def begin(self, attempt: object) -> bool:
        """An attempt has passed the gates; whether it may be sent. Not where the call was settled meanwhile."""
        if self.hold is None:
            return True
        with _LOCK:
            if self._late is not None:
                return False
            self.under_way += 1  # at once: whoever is ended by the collector in the next line may settle the call
            if self._attempts is None:
                self._attempts = {}
            self._attempts[attempt] = None
        return True

    def over(self, attempt: object) -> None:
        """An attempt that began has ended and is booked, or nobody will hear of it any more. Once or more often."""
        if self._attempts is None:
            return
        with _LOCK:
            if self._attempts.pop(attempt, self) is self:
                return
            self.under_way -= 1
            let_go = self._let_go
        if let_go is not None:
            let_go()

    def settle(self, late: Callable[[Amount], object], let_go: Callable[[], object]) -> tuple[Amount, int]:
        """The call is over: what it has spent, and how many attempts are still under way, which nobody waits for.

        What one of these turns out to have cost goes to `late`; then `let_go` is called for each.
        """
        with _LOCK:
            self._late, self._let_go = late, let_go
            return self.spent, self.under_way


@dataclass(slots=True)  # not frozen, which would treble what it costs to make one
class Answer:
    """A model's answer and where it came from; nobody who has been given one changes it, for others may have the same.

    `attempts` is how many requests were sent for it: 0 from the cache, and for those who joined an equal call; those
    to models that failed before it are counted. `model` names who gave it, where the LM asked has fallbacks, and `met`
    is the infrastructure's failure for which another model was asked, if there was one. `key` is its name in the cache,
    where that was asked for it. `limit` is how many tokens its request allowed it, of an answer that was cut off.
    """

    response: LMResponse
    source: Source = "model"
    attempts: int = 1
    model: str | None = None
    met: LMError | None = None
    key: bytes | None = None
    limit: int | None = None


def credited(answer: Answer, lm: LM, attempts: int, errors: Sequence[LMError]) -> Answer:
    """The answer that `lm` gave, one of several in turn, after `attempts` requests and `errors` of those before it."""
    met = next((error for error in errors if error.infrastructure), None)
    return replace(answer, model=lm.name, attempts=answer.attempts + attempts, met=met)
