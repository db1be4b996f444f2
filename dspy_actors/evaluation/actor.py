"""`EvaluationActor`: a temporary actor that runs a program over rows, several at a time."""

from __future__ import annotations

from dspy_actors.evaluation.job import Hand, Job
from supervisors.actor import Actor
from supervisors.reply import Reply


class EvaluationActor(Actor):
    """Works on a job in `slots` places at once, on the programs loop, until the job has no more rows.

    What brings a row's program down (a `SystemExit`, say) brings this actor down; its rows go back to the job, and
    another actor takes its place.

    Messages: `work(job, slots, hand)`: settles when there are no more rows.
    """

    dispatcher = "loop"

    def work(self, job: Job, slots: int, hand: Hand) -> Reply[None]:
        """Begin; the reply settles at the end."""
        self.reply: Reply[None] = self.defer()
        self.busy = slots
        idle = self._idle
        for _ in range(slots):
            self.start_task(job.work(hand, idle))
        return self.reply

    def _idle(self) -> None:
        """A slot has no more to do."""
        self.busy -= 1
        if self.busy == 0:
            self.reply.set(None)
