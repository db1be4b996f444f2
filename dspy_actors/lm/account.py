"""`Account`: whose call it is and what its attempts have cost so far, also those that failed or were given up."""

from __future__ import annotations

from decimal import Decimal

from dspy_actors.lm.budget import Amount


class Account:
    """Carried by one call through every attempt and every worker. Added to on the io loop, read when the call ends."""

    __slots__ = ("session", "spent", "tenant")

    def __init__(self, tenant: str = "", session: str = "") -> None:
        self.tenant = tenant
        self.session = session
        self.spent = Amount()

    def add(self, tokens: int, money: Decimal | None) -> None:
        """Book one request that was sent."""
        self.spent = self.spent + Amount(tokens, money or Decimal(0), 1)
