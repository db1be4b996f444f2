"""Whether demonstrations teach anything: whether each one's answer follows from the others better than by chance.

A learner that copies the nearest demonstration copies noise just as gladly. So each demonstration is hidden in turn
and voted on by the rest, as a new input will be; where its own answer gets hardly more of the votes than an answer
drawn at random would, the demonstrations are treated as if they were not there.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence

from dspy_actors.lm.embedded.features import Bag
from dspy_actors.lm.embedded.weights import seen_with, shares, weight

ENOUGH = 32
"""Fewer demonstrations cannot tell a lesson from noise; they are always followed."""

HIDDEN = 64
"""How many demonstrations are hidden in turn at most; of more, evenly spaced ones."""

CLEARLY = 1.0
"""How many standard deviations above chance the votes for the hidden answers must lie."""

CLEARLY_COMMON = 3.0
"""How many standard deviations above an equal share makes an answer common enough to be a lesson of its own."""


def teach(bags: Sequence[Bag], answers: Sequence[str], sharpness: float, most: int) -> bool:
    """Whether demonstrations with these words and answers predict one another."""
    total = len(answers)
    share = shares(answers)
    if total < ENOUGH or len(share) < 2:
        return True
    gain = spread = 0.0
    rows = range(0, total, math.ceil(total / HIDDEN))
    for row, votes in zip(rows, _hidden_votes(bags, answers, rows, sharpness, most), strict=True):
        cast = sum(votes.values()) or 1.0
        expected = sum(share[each] * vote / cast for each, vote in votes.items())
        gain += votes[answers[row]] / cast - expected
        spread += sum(share[each] * (vote / cast) ** 2 for each, vote in votes.items()) - expected**2
    return gain > 0.0 and gain >= CLEARLY * math.sqrt(max(0.0, spread))


def clearly_common(answers: Sequence[str], options: int) -> str | None:
    """The answer that is given far more often than one in `options`, if there is one."""
    total = len(answers)
    answer, share = max(shares(answers).items(), key=lambda pair: pair[1])
    equal = 1.0 / max(2, options)
    far = CLEARLY_COMMON * math.sqrt(equal * (1.0 - equal) / total)
    return answer if share >= equal + far else None


def _hidden_votes(
    bags: Sequence[Bag], answers: Sequence[str], rows: range, sharpness: float, most: int
) -> Iterator[dict[str, float]]:
    """For each demonstration of `rows` the votes of the others; its own answer has no part in what a word weighs."""
    share = shares(answers)
    seen = seen_with(bags, answers)
    weights = {feature: weight(by_answer, share, len(answers)) for feature, by_answer in seen.items()}
    holders: dict[str, list[int]] = {}
    for row, bag in enumerate(bags):
        for feature in bag:
            holders.setdefault(feature, []).append(row)
    norms = [math.sqrt(sum((count * weights[feature]) ** 2 for feature, count in bag.items())) for bag in bags]
    for row in rows:
        nearness: dict[int, float] = {}
        for feature, count in bags[row].items():
            if len(holders[feature]) < 2:
                continue
            others = _without(seen[feature], answers[row])
            squared = weight(others, share, len(answers) - 1) ** 2
            for other in holders[feature]:
                if other != row:
                    nearness[other] = nearness.get(other, 0.0) + count * bags[other][feature] * squared
        votes = dict.fromkeys(share, 0.0)
        for value, other in heapq.nsmallest(most, ((-value / norms[at], at) for at, value in nearness.items())):
            votes[answers[other]] += (-value) ** sharpness / math.sqrt(share[answers[other]])
        yield votes


def _without(by_answer: Mapping[str, int], answer: str) -> dict[str, int]:
    return {each: count - (each == answer) for each, count in by_answer.items()}
