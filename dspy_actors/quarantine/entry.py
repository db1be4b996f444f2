"""`Entry`: one input that is set aside, as it is listed, exported and filed. It holds no input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dspy_actors.errors import QuarantineError
from dspy_actors.quarantine.preview import FieldPreview, Preview


@dataclass(frozen=True, slots=True)
class Entry:
    """One input of one program, version and tenant that is set aside.

    Instants are wall-clock seconds since 1970. `reason` is the kind of the last fault and `error` its class; the
    error's text is not kept, since it may quote the input. `faults` counts the calls that failed, `times` how often
    in a row it was set aside. `until` is when one call is let through as a probe; an entry that nobody asks for is
    forgotten as long after that.
    """

    id: str
    tenant: str
    program: str
    version: str
    input_hash: str
    reason: str
    error: str
    faults: int
    times: int
    first_at: float
    last_at: float
    until: float
    preview: Preview

    def as_data(self) -> dict[str, Any]:
        """The entry as plain data, fit for JSON and msgpack."""
        return {**asdict(self), "preview": [asdict(field) for field in self.preview]}


_TYPES = {"faults": int, "times": int, "first_at": float, "last_at": float, "until": float}


def entry_of(data: Mapping[str, Any]) -> Entry:
    """The entry that `as_data` wrote. Raises `QuarantineError` where it is none."""
    try:
        preview = tuple(
            FieldPreview(
                str(each["name"]),
                str(each["type"]),
                None if each["length"] is None else int(each["length"]),
                None if each["begins"] is None else str(each["begins"]),
            )
            for each in data["preview"]
        )
        plain = {
            each.name: _TYPES.get(each.name, str)(data[each.name]) for each in fields(Entry) if each.name != "preview"
        }
        bytes.fromhex(plain["version"] + plain["input_hash"])
        return Entry(**plain, preview=preview)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"an entry of the quarantine cannot be read: {type(error).__name__}"
        raise QuarantineError(msg) from error
