"""`QuarantineBook`: what a runtime has set aside, to be listed, shown, released, exported and replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dspy_actors.arguments import a
from dspy_actors.errors import ProgramError, QuarantineError
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.program import Program
from dspy_actors.modules.user_code import ended_itself
from dspy_actors.quarantine.change import QuarantineStats
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.export import refuse_others, write_jsonl
from dspy_actors.quarantine.state import Quarantine
from dspy_actors.runner import Settings, refuse_on_loop


class QuarantineBook:
    """The entries of one runtime's quarantine, `Runtime.quarantine`. Safe from any thread; asks no actor.

    An entry holds a hash and a short redacted preview of its input, and no more: whoever replays it brings the inputs.
    """

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def list(self, *, program: str | None = None, tenant: str | None = None) -> Sequence[Entry]:
        """The entries, the one that nobody has asked for longest first; of one program or one tenant, if named."""
        return [
            entry
            for entry in self._quarantine.entries()
            if program in (None, entry.program) and tenant in (None, entry.tenant)
        ]

    def show(self, entry_id: str) -> Entry:
        """One entry. Raises `QuarantineError` where there is none of this id."""
        return self._quarantine.entry(entry_id)

    def release(self, entry_id: str) -> Entry:
        """Let calls with the input through again, with nothing remembered against it here.

        The cache gives a refusal of the provider again for half a minute, which does not speak against the input anew.
        """
        return self._quarantine.release(entry_id)

    def export(self, path: str | Path) -> int:
        """Write every entry as a line of JSON; how many there are."""
        return write_jsonl(self._quarantine.entries(), path)

    def stats(self) -> QuarantineStats:
        """Counts in one reading; `Runtime.health()` has them too."""
        return self._quarantine.stats()

    def replay(self, entry_id: str, program: Program, inputs: Mapping[str, Any]) -> Outcome:
        """Run `inputs`, which must be the entry's own, on `program`, blocking; a success releases the entry.

        `program` is the one that is mended: another version, another model. It is asked whether or not the input is set
        aside for it. Raises `QuarantineError` for an entry that is not there and for other inputs.
        """
        refuse_on_loop("replay", "`await rt.quarantine.areplay(...)`")
        a(Program, "replay", "program", program, "what rt.start(module) gave")
        refuse_others(self._quarantine.entry(entry_id), inputs)
        running = program.host.run_on_loop(self._replayed(entry_id, program, dict(inputs), program.in_force()))
        try:
            return running.get()
        except ProgramError as error:  # its code wanted to end the process
            return Outcome(call_id="", error=error)
        except BaseException:  # Ctrl-C: the call does not go on without us
            running.cancel()
            raise

    async def areplay(self, entry_id: str, program: Program, inputs: Mapping[str, Any]) -> Outcome:
        """As `replay`, without blocking the event loop."""
        a(Program, "areplay", "program", program, "what rt.start(module) gave")
        refuse_others(self._quarantine.entry(entry_id), inputs)
        try:
            return await self._replayed(entry_id, program, dict(inputs), program.in_force())
        except SystemExit as error:
            return Outcome(call_id="", error=ended_itself(program.name, error))

    async def _replayed(self, entry_id: str, program: Program, inputs: dict[str, Any], settings: Settings) -> Outcome:
        outcome = await program.outcome(inputs, settings, guarded=False)
        if outcome.ok:
            try:
                self._quarantine.release(entry_id, "replayed")
            except QuarantineError:  # somebody else was quicker
                return outcome
        return outcome
