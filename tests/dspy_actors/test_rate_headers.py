"""What is read from a provider's rate headers, sensible or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_actors.lm.bucket import Bucket
from dspy_actors.lm.rate_headers import LONGEST_RESET, Quota, RateReading, duration, read_rate_headers


def openai(**parts: str) -> dict[str, str]:
    """`limit_requests="60"` as a header."""
    return {f"x-ratelimit-{name.replace('_', '-')}": text for name, text in parts.items()}


def anthropic(kind: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    stem = f"anthropic-ratelimit-{kind}"
    return {f"{stem}-limit": limit, f"{stem}-remaining": remaining, f"{stem}-reset": reset}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("250us", 0.00025),
        ("59", 59.0),
        ("0.5", 0.5),
        (" 7s ", 7.0),
        ("0", None),
        ("0s", None),
        ("-1", None),
        ("-1s", None),
        ("banana", None),
        ("6m banana", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e300", None),
        ("s", None),
        ("999999999h", None),
        ("٣s", None),
    ],
)
def test_a_duration_is_read_or_is_nothing(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_openai_s_headers_are_read() -> None:
    headers = openai(
        limit_requests="5000",
        remaining_requests="4999",
        reset_requests="12ms",
        limit_tokens="160000",
        remaining_tokens="159000",
        reset_tokens="6m0s",
    )
    assert read_rate_headers(headers) == RateReading(Quota(5000, 4999, 0.012), Quota(160000, 159000, 360.0))


def test_anthropic_s_instants_are_compared_with_the_date_of_the_answer() -> None:
    headers = anthropic("requests", "1000", "999", "2025-08-21T12:40:59Z") | {"date": "Thu, 21 Aug 2025 12:40:29 GMT"}
    assert read_rate_headers(headers).requests == Quota(1000, 999, 30.0)


def test_a_clock_that_is_hours_off_changes_nothing() -> None:
    skewed = anthropic("requests", "1000", "999", "2019-01-01T05:00:30+00:00") | {
        "date": "Tue, 01 Jan 2019 05:00:00 GMT"
    }
    assert read_rate_headers(skewed).requests.reset == 30.0


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 21 Aug 2025 18:00:00 GMT", "Thu, 21 Aug 2025 12:40:29"])
def test_an_instant_without_a_date_before_it_is_ignored(date: str) -> None:
    headers = anthropic("requests", "1000", "999", "2025-08-21T12:40:59Z") | {"date": date}
    assert read_rate_headers(headers).requests == Quota(1000, 999, None)


def test_anthropic_s_input_and_output_limits_are_told_apart() -> None:
    date = {"date": "Thu, 21 Aug 2025 12:40:29 GMT"}
    reset = "2025-08-21T12:40:59Z"
    headers = anthropic("input-tokens", "80000", "79000", reset) | anthropic("output-tokens", "16000", "15000", reset)
    found = read_rate_headers(headers | anthropic("tokens", "96000", "94000", reset) | date)
    assert found.input_tokens == Quota(80000, 79000, 30.0)
    assert found.output_tokens == Quota(16000, 15000, 30.0)
    assert not found.tokens


def test_anthropic_s_tightest_limit_counts_where_it_tells_no_other() -> None:
    found = read_rate_headers(anthropic("tokens", "96000", "94000", "soon"))
    assert found.tokens == Quota(96000, 94000, None)


@pytest.mark.parametrize("text", ["-1", "banana", "", "1.5", "١٢", "9" * 40])
def test_a_count_that_is_none_is_ignored(text: str) -> None:
    assert not read_rate_headers(openai(limit_requests=text, remaining_requests=text))


def test_a_limit_of_zero_means_that_there_is_none() -> None:
    assert read_rate_headers(openai(limit_requests="0", remaining_requests="0")).requests.limit is None


def test_more_left_than_the_limit_is_the_limit() -> None:
    assert read_rate_headers(openai(limit_requests="10", remaining_requests="99")).requests.remaining == 10


def test_answers_without_rate_headers_say_nothing() -> None:
    assert not read_rate_headers({"content-type": "application/json", "date": "Thu, 21 Aug 2025 12:40:29 GMT"})


NONSENSE = st.sampled_from(["-1", "0", "banana", "6m0s", "", "1e9", "1000", "59", "9" * 20, "12ms", "-5s", "24h0m0s"])


@given(NONSENSE, NONSENSE, NONSENSE)
def test_no_header_whatever_it_says_stalls_anybody_longer_than_the_time_until_full(
    limit: str, remaining: str, reset: str
) -> None:
    quota = read_rate_headers(openai(limit_requests=limit, remaining_requests=remaining, reset_requests=reset)).requests
    bucket = Bucket(None, 0.0)
    bucket.learn(quota, 0.0, 0.0, 0.0)
    assert bucket.wait(1, 0.0) <= (quota.reset or 60.0) * 1.0001
    assert (quota.reset or 0.0) <= LONGEST_RESET
