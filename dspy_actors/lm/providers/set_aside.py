"""`SetAside`: the keys that are not used for a while, because a server refused them or has no money for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dspy_actors.errors import LMError

SECONDS = 60.0
"""How long a key is set aside: short enough to notice a top-up, long enough to send a refusal no storm of requests."""


@dataclass(frozen=True, slots=True)
class SetAsideKey:
    """One key at one endpoint, by its id; `error` is why, `until` an instant of the table's clock in seconds."""

    endpoint: str
    key_id: str
    error: LMError
    until: float


class SetAside:
    """Which keys are set aside, published for every provider of a runtime and whoever wants to look.

    It outlives providers and workers. Safe from any thread; `now` is a monotonic clock in seconds. `told` is called
    for each key that was in use until now, in the thread that sets it aside; it must not block.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, seconds: float = SECONDS) -> None:
        self.now = now
        self._seconds = seconds
        self.told: Callable[[SetAsideKey], object] | None = None
        self._keys: dict[tuple[str, str], SetAsideKey] = {}
        self._gave: dict[tuple[int, str], tuple[object, str]] = {}

    def add(self, endpoint: str, key_id: str, error: LMError) -> None:
        """Set a key aside because of `error`, from now on."""
        now = self.now()
        was_in_use = self.find(endpoint, key_id) is None
        for name, old in list(self._keys.items()):
            if old.until <= now:
                self._keys.pop(name, None)
        self._keys[endpoint, key_id] = key = SetAsideKey(endpoint, key_id, _copy(error), now + self._seconds)
        for by, (_, given) in list(self._gave.items()):
            if (by[1], given) not in self._keys:
                self._gave.pop(by, None)
        if was_in_use and self.told is not None:
            self.told(key)

    @property
    def empty(self) -> bool:
        """Whether no key is set aside; those whose time is over may still count."""
        return not self._keys

    def find(self, endpoint: str, key_id: str) -> SetAsideKey | None:
        """The key, if it is set aside now."""
        found = self._keys.get((endpoint, key_id))
        return found if found is not None and found.until > self.now() else None

    def gave(self, source: object, endpoint: str, key_id: str) -> None:
        """Note which key the callable `source` gave last, as far as that one is set aside."""
        if self.find(endpoint, key_id) is None:
            self._gave.pop((id(source), endpoint), None)
        else:
            self._gave[id(source), endpoint] = (source, key_id)

    def find_given(self, source: object, endpoint: str) -> SetAsideKey | None:
        """The key that the callable `source` gave last, if it is set aside now."""
        given = self._gave.get((id(source), endpoint))
        return None if given is None else self.find(endpoint, given[1])

    def left(self, key: SetAsideKey) -> float:
        """Seconds until the key may be used again."""
        return max(0.0, key.until - self.now())

    def clear(self) -> None:
        """Use every key again, as after a top-up."""
        self._keys.clear()
        self._gave.clear()

    def snapshot(self) -> list[dict[str, object]]:
        """Each key that is set aside now: `endpoint`, `key_id`, `kind` of the error, `seconds_left`."""
        now = self.now()
        return [
            {
                "endpoint": key.endpoint,
                "key_id": key.key_id,
                "kind": key.error.kind,
                "seconds_left": round(key.until - now, 3),
            }
            for key in list(self._keys.values())
            if key.until > now
        ]


def _copy(error: LMError) -> LMError:
    """Without traceback, which would keep the frames of the request alive."""
    made = error.fresh()
    assert isinstance(made, LMError)
    return made
