"""`Account`: whose call it is, where it stands, and what its attempts have cost so far, given up ones included."""

from __future__ import annotations

from decimal import Decimal

from dspy_actors.lm.budget import Amount


class Account:
    """Carried by one call through every attempt and every worker. Written on the io loop, read when the call ends.

    `phase` is what the call waits for: its `worker`, the `limiter`, the `model`, or the `backoff` between attempts.
    """

    __slots__ = ("phase", "session", "spent", "tenant")

    def __init__(self, tenant: str = "", session: str = "") -> None:
        self.tenant = tenant
        self.session = session
        self.phase = "worker"
        self.spent = Amount()

    def add(self, tokens: int, money: Decimal | None) -> None:
        """Book one request that was sent."""
        self.spent = self.spent + Amount(tokens, money or Decimal(0), 1)
