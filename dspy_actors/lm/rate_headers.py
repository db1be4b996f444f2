"""What a provider's headers say of its rate limits, in both dialects. Pure: headers in, a reading out.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, the reset as a duration (`6m0s`, `12ms`) until the
bucket is full again. Anthropic: `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,
reset}`, the reset as an instant, to be compared with the answer's own `date`, never with our clock. What is missing,
negative or unreadable is `None`: a wrong number must not stall anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
LONGEST_RESET = 86_400.0
"""A reset further away than a day is taken for nonsense."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit: how many a period, how many are left, and in how many seconds it is full again."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None

    def __bool__(self) -> bool:
        return self.limit is not None or self.remaining is not None or self.reset is not None


NOTHING = Quota()


@dataclass(frozen=True, slots=True)
class RateReading:
    """The limits of one answer. `tokens` are prompt and answer together; some providers bound each of them instead."""

    requests: Quota = NOTHING
    tokens: Quota = NOTHING
    input_tokens: Quota = NOTHING
    output_tokens: Quota = NOTHING

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.input_tokens or self.output_tokens)


SILENT = RateReading()


def read_rate_headers(headers: Mapping[str, str]) -> RateReading:
    """The limits that `headers` (lower-case names) tell; falsy where they tell none."""
    names = "\n".join(("", *headers))  # looked through at once: most servers tell none
    if "\nanthropic-ratelimit-" in names:
        return _anthropic(headers)
    if "\nx-ratelimit-" not in names:
        return SILENT
    return RateReading(
        _quota(headers, "x-ratelimit-{}-requests", duration), _quota(headers, "x-ratelimit-{}-tokens", duration)
    )


def duration(text: str) -> float | None:
    """`6m0s`, `1h2m3.5s`, `12ms` or plain seconds, as seconds; `None` for anything else, 0 and less included."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _sensible(float(text))
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return _sensible(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _anthropic(headers: Mapping[str, str]) -> RateReading:
    date = headers.get("date", "")

    def until(text: str) -> float | None:
        return _until(text, date)

    def quota(kind: str) -> Quota:
        return _quota(headers, f"anthropic-ratelimit-{kind}-{{}}", until)

    split = (quota("input-tokens"), quota("output-tokens"))
    # `tokens` repeats the tightest of the limits at the moment: with both parts known it says nothing new
    return RateReading(quota("requests"), NOTHING if all(split) else quota("tokens"), *split)


def _quota(headers: Mapping[str, str], pattern: str, reset: Callable[[str], float | None]) -> Quota:
    limit = _count(headers.get(pattern.format("limit"), ""))
    if limit == 0:  # some gateways send 0 for "none"; a limit of nothing cannot be meant
        limit = None
    remaining = _count(headers.get(pattern.format("remaining"), ""))
    if remaining is not None and limit is not None and remaining > limit:
        remaining = limit
    text = headers.get(pattern.format("reset"))
    return Quota(limit, remaining, None if text is None else reset(text))


def _count(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _sensible(seconds: float) -> float | None:
    return seconds if 0 < seconds <= LONGEST_RESET else None


def _until(text: str, date: str) -> float | None:
    from email.utils import parsedate_to_datetime  # it loads a lot, and not every provider sends dates

    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
        now = parsedate_to_datetime(date)
        if at.tzinfo is None or now.tzinfo is None:
            return None
        seconds = (at.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _sensible(seconds)
