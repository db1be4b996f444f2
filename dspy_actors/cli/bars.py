"""`VanishingBar`: a progress bar that leaves nothing on the screen when the job fails."""

from __future__ import annotations

from dspy_actors.evaluation.progress import ProgressBar


class VanishingBar(ProgressBar):
    """Ends as it stands when its block ends; an error wipes it, so that the error's one line is all there is."""

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            super().__exit__(*exc)
            return
        self._bar.live.transient = True
        self._bar.live.stop()
