"""A rate limit that the server keeps and tells of, in OpenAI's headers."""

from __future__ import annotations

from tests.server.faults import Fault


class Pace:
    """At most `requests` every `seconds`, refilled steadily; what is too fast gets a 429. `silent`: nothing is told."""

    def __init__(self, requests: int, seconds: float = 60.0, silent: bool = False) -> None:
        self.requests, self.rate, self.silent = requests, requests / seconds, silent
        self._level, self._at = float(requests), 0.0

    def take(self, now: float) -> Fault:
        """What this request gets beside its answer: headers, and a refusal where it came too early."""
        self._level = min(self.requests, self._level + (now - self._at) * self.rate)
        self._at = now
        refused = self._level < 1.0
        if not refused:
            self._level -= 1.0
        fault: Fault = {"status": "429"} if refused else {}
        if self.silent:
            return fault
        if refused:
            fault["retry_after"] = f"{(1.0 - self._level) / self.rate:.3f}"
        fault["h.x-ratelimit-limit-requests"] = str(self.requests)
        fault["h.x-ratelimit-remaining-requests"] = str(int(self._level))
        fault["h.x-ratelimit-reset-requests"] = f"{(self.requests - self._level) / self.rate * 1000:.0f}ms"
        return fault
