"""What a provider's headers say of its rate limits, in both dialects. Pure: headers in, a reading out.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration (`6m0s`, `12ms`) until the
bucket is full again. Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,
reset}`, the reset as an instant, to be compared with the answer's own `date`, never with our clock. What is missing,
negative or unreadable is `None`: a wrong number must not stall anybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
LONGEST_RESET = 86_400.0
"""A reset further away than a day is taken for nonsense."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit: how many a minute, how many are left, and in how many seconds it is full again."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class RateReading:
    """The limits of one answer: requests, and tokens (the tightest the provider tells)."""

    requests: Quota = Quota()
    tokens: Quota = Quota()

    def __bool__(self) -> bool:
        return any(
            value is not None
            for quota in (self.requests, self.tokens)
            for value in (quota.limit, quota.remaining, quota.reset)
        )


def read_rate_headers(headers: Mapping[str, str]) -> RateReading:
    """The limits that `headers` (lower-case names) tell; falsy where they tell none."""
    if "anthropic-ratelimit-requests-limit" in headers or "anthropic-ratelimit-tokens-limit" in headers:
        date = headers.get("date", "")
        return RateReading(
            _quota(headers, "anthropic-ratelimit-requests-{}", lambda text: _until(text, date)),
            _quota(headers, "anthropic-ratelimit-tokens-{}", lambda text: _until(text, date)),
        )
    return RateReading(
        _quota(headers, "x-ratelimit-{}-requests", duration),
        _quota(headers, "x-ratelimit-{}-tokens", duration),
    )


def duration(text: str) -> float | None:
    """`6m0s`, `1h2m3.5s`, `12ms` or plain seconds, as seconds; `None` for anything else."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return None
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return seconds if 0 <= seconds <= LONGEST_RESET else None


def _quota(headers: Mapping[str, str], pattern: str, reset: object) -> Quota:
    assert callable(reset)
    limit = _count(headers.get(pattern.format("limit"), ""))
    if limit == 0:  # some gateways send 0 for "none"; a limit of nothing cannot be meant
        limit = None
    text = headers.get(pattern.format("reset"))
    return Quota(limit, _count(headers.get(pattern.format("remaining"), "")), None if text is None else reset(text))


def _count(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _until(text: str, date: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        now = parsedate_to_datetime(date)
        seconds = (at.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= LONGEST_RESET else None
