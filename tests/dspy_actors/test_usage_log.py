"""The sums of usage: true for ever in all, by tenant and by session for those booked last."""

from __future__ import annotations

import random
from decimal import Decimal

from dspy_actors.lm.usage_log import REQUEST, UsageLog, UsageRecord, UsageTotals
from dspy_actors.messages import Usage
from supervisors.telemetry import Telemetry
from tests.dspy_actors.programs import PATIENCE, begin


def record(tenant: str, session: str, tokens: int = 1, cost: Decimal | None = None) -> UsageRecord:
    return UsageRecord("c", 1, tenant, session, "m", "ok", 0.1, Usage(prompt_tokens=tokens, completion_tokens=2), cost)


def log(**bounds: int) -> UsageLog:
    return UsageLog({}, **bounds)


def test_a_session_that_gives_way_is_in_the_sum_of_its_tenant_from_then_on() -> None:
    book = log(sessions=2)
    for session in ("one", "two", "three"):
        book.add(record("a", session))

    assert book.totals(session="one") == UsageTotals()
    assert [book.totals(session=name).attempts for name in ("two", "three")] == [1, 1]
    assert book.totals(tenant="a") == UsageTotals(3, 3, 6, Decimal(0), 3)
    assert book.totals(tenant="b") == UsageTotals()


def test_the_session_booked_least_lately_gives_way() -> None:
    book = log(sessions=2)
    for session in ("one", "two", "one", "three"):
        book.add(record("a", session))

    assert [book.totals(session=name).attempts for name in ("one", "two", "three")] == [2, 0, 1]


def test_a_tenant_that_gives_way_is_in_the_sum_of_everything() -> None:
    book = log(sessions=1, tenants=1)
    for tenant in ("a", "b", "c"):
        book.add(record(tenant, "", cost=Decimal("0.5")))

    assert [book.totals(tenant=name).attempts for name in ("a", "b", "c")] == [0, 1, 1]
    assert book.totals() == UsageTotals(3, 3, 6, Decimal("1.5"), 0)


def test_no_sums_are_kept_beyond_the_bounds_and_none_is_lost() -> None:
    seed = random.randrange(1_000_000)
    rng = random.Random(seed)
    book, tokens = log(sessions=5, tenants=3), 0
    for _ in range(2000):
        count = rng.randrange(100)
        book.add(record(f"t{rng.randrange(8)}", f"s{rng.randrange(4)}", count))
        tokens += count
        assert len(book._sessions) <= 5, f"seed {seed}"
        assert len(book._tenants) <= 3, f"seed {seed}"
        assert book.totals().prompt_tokens == tokens, f"seed {seed}"
    assert book.totals().attempts == 2000


def test_what_a_dropped_call_books_in_the_middle_of_a_sum_harms_it_not() -> None:
    """The collector may end one in this very thread while the sum is made."""
    book = log()
    for number in range(50):
        book.add(record("a", f"s{number}"))

    class Ends:
        """Books where it is compared, as a dropped call does where the collector comes."""

        def __eq__(self, other: object) -> bool:
            book.add(record("a", f"late {other}"))
            return True

        def __hash__(self) -> int:
            return 0

    assert book.totals(tenant=Ends()).attempts >= 50  # type: ignore[arg-type]


def test_an_attempt_is_told_of_when_it_is_in_the_sums_and_outside_of_the_lock() -> None:
    telemetry, seen = Telemetry(), list[UsageTotals]()
    book = UsageLog({}, telemetry=telemetry)
    telemetry.attach("test", REQUEST, lambda *_: seen.append(begin(book.totals).get(timeout=PATIENCE)))
    book.add(record("a", "one"))
    assert seen == [book.totals()]


def test_of_an_attempt_of_which_nothing_is_known_no_tokens_are_told() -> None:
    telemetry, seen = Telemetry(), list[object]()
    telemetry.attach("test", REQUEST, lambda _, took, about: seen.append((took, about["estimated"])))
    UsageLog({}, telemetry=telemetry).add(UsageRecord("c", 1, "", "", "m", "error", 0.1))
    assert seen == [({"seconds": 0.1, "prompt_tokens": 0, "completion_tokens": 0, "cost": None}, False)]
