"""`EvaluationActor`: a temporary actor that runs a program over rows, several at a time."""

from __future__ import annotations

from contextvars import Context

from dspy_actors.evaluation.job import Hand, Job
from supervisors.actor import Actor
from supervisors.reply import Reply


class EvaluationActor(Actor):
    """Works on a job in `slots` places at once, on the programs loop, until the job has no more rows.

    What brings a row's program down (a `SystemExit`, say) brings this actor down; its rows go back to the job, and
    another actor takes its place.

    Messages: `work(job, slots, hand)`: settles when there are no more rows. `look`: there may be a row for a slot that
    found none, or there will be none any more.
    """

    dispatcher = "loop"

    def work(self, job: Job, slots: int, hand: Hand) -> Reply[None]:
        """Begin; the reply settles at the end."""
        self.job = job
        self.hand = hand
        self.reply: Reply[None] = self.defer()
        self.busy = 0
        for _ in range(slots):
            self._begin()
        return self.reply

    def look(self) -> None:
        """Begin with a slot anew, or end."""
        if not self.job.feed.ended:
            self._begin()
        elif self.busy == 0:
            self.reply.set(None)

    def wake(self) -> bool:
        """See `Taker.wake`. In nobody's name: who wakes may be the code of an actor that is dead."""
        ref = self.ref
        if ref.is_alive():
            Context().run(ref.cast, EvaluationActor.look)
            return True
        return False

    def leave(self) -> None:
        """See `SlotOwner.leave`."""
        self.busy -= 1
        if self.busy == 0 and self.job.feed.ended:
            self.reply.set(None)

    def _begin(self) -> None:
        self.busy += 1
        self.start_task(self.job.work(self.hand, self))
