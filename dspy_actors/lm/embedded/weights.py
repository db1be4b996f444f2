"""How much each word counts: more the rarer it is among the demonstrations, and the more it keeps to one answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dspy_actors.lm.embedded.features import Bag

SMOOTHING = 1.0
"""How many imaginary demonstrations of average answers each word has been seen in besides the real ones."""

KEEPING = 4.0
"""How much a word that keeps to one answer weighs above one that is spread like the answers themselves."""


def shares(answers: Sequence[str]) -> dict[str, float]:
    """Answer to its share of all, in order of first appearance."""
    found: dict[str, float] = {}
    for answer in answers:
        found[answer] = found.get(answer, 0.0) + 1.0
    return {answer: count / len(answers) for answer, count in found.items()}


def seen_with(bags: Sequence[Bag], answers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Feature to how often it was seen with each answer."""
    seen: dict[str, dict[str, int]] = {}
    for bag, answer in zip(bags, answers, strict=True):
        for feature in bag:
            by_answer = seen.setdefault(feature, {})
            by_answer[answer] = by_answer.get(answer, 0) + 1
    return seen


def weight(by_answer: Mapping[str, int], share: Mapping[str, float], total: int) -> float:
    """The weight of a feature that was seen with these answers, among `total` demonstrations."""
    frequency = sum(by_answer.values())
    rarity = math.log((total + 1) / (frequency - 0.5))
    return rarity * (1.0 + KEEPING * _keeping(by_answer, share, frequency))


def _keeping(by_answer: Mapping[str, int], share: Mapping[str, float], frequency: int) -> float:
    """0 for a feature spread over the answers as they are themselves, towards 1 for one that keeps to one answer."""
    if len(share) < 2:
        return 0.0
    gain = 0.0
    for answer, part in share.items():
        smoothed = (by_answer.get(answer, 0) + SMOOTHING * part) / (frequency + SMOOTHING)
        gain += smoothed * math.log(smoothed / part)
    return gain / math.log(len(share))
