"""What the runtime and the command line do alike with entries: check that inputs are an entry's own, export."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dspy_actors.errors import QuarantineError
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.names import hash_inputs


def fits(entry: Entry, inputs: Mapping[str, Any]) -> bool:
    """Whether `inputs` are what was set aside: the entry keeps no more of them than their hash."""
    found = hash_inputs(inputs)
    return found is not None and found.hex() == entry.input_hash


def refuse_others(entry: Entry, inputs: Mapping[str, Any]) -> None:
    """Raise `QuarantineError` where `inputs` are not what was set aside."""
    if not fits(entry, inputs):
        named = ", ".join(field.name for field in entry.preview)
        msg = (
            f"these are not the inputs of entry {entry.id}: their hash differs. It has the fields {named}, each with "
            f"the value and type that the call had"
        )
        raise QuarantineError(msg, entry=entry.id)


def write_jsonl(entries: Iterable[Entry], path: str | Path) -> int:
    """Write entries as one JSON object a line, without inputs; how many. Raises `OSError` where it cannot."""
    count = 0
    with Path(path).open("w", encoding="utf-8") as file:
        for entry in entries:
            file.write(as_line(entry))
            count += 1
    return count


def as_line(entry: Entry) -> str:
    """One entry as a line of JSON."""
    return json.dumps(entry.as_data()) + "\n"
