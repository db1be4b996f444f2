"""Votes of the nearest demonstrations, for one output field.

Each demonstration is the bag of its inputs' words. A word weighs more the rarer it is among the demonstrations and
the more it keeps to one of the field's answers; nearness is the cosine of the weighted bags, and the nearest
demonstrations vote for their answers with a power of it. Everything is learned from the demonstrations in the prompt.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence

from dspy_actors.lm.embedded.features import Bag
from dspy_actors.lm.embedded.prompt import Demo
from dspy_actors.lm.embedded.trust import teach
from dspy_actors.lm.embedded.weights import seen_with, shares, weight

SHARPNESS = 2.0
"""The power of the nearness that a vote counts with."""


class Neighbours:
    """The demonstrations that supply one field, indexed by feature; `teach` says whether they predict one another."""

    __slots__ = ("_demos", "_most", "_passed", "_postings", "_share", "_unknown", "_weights", "answers", "teach")

    def __init__(self, rows: Sequence[tuple[Bag, Demo, str]]) -> None:
        bags = [bag for bag, _, _ in rows]
        self._demos = tuple(demo for _, demo, _ in rows)
        self.answers = tuple(answer for _, _, answer in rows)
        total = len(self.answers)
        self._passed: dict[Callable[[str, Mapping[str, str]], bool], float] = {}
        self._share = shares(self.answers)
        self._most = max(5, total // 3)
        self._unknown = math.log((total + 1) / 0.5)
        seen = seen_with(bags, self.answers)
        self._weights = {feature: weight(by_answer, self._share, total) for feature, by_answer in seen.items()}
        self.teach = teach(bags, self.answers, SHARPNESS, self._most)
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for row, bag in enumerate(bags):
            weighted = {feature: count * self._weights[feature] for feature, count in bag.items()}
            norm = math.sqrt(sum(value * value for value in weighted.values())) or 1.0
            for feature, value in weighted.items():
                self._postings.setdefault(feature, []).append((row, value * self._weights[feature] / norm))

    def nearest(self, bag: Bag) -> list[tuple[float, int]]:
        """(nearness from 0 to 1, row) of the nearest demonstrations, nearest first, ties by position."""
        nearness: dict[int, float] = {}
        square = 0.0
        for feature, count in bag.items():
            square += (count * self._weights.get(feature, self._unknown)) ** 2
            for row, product in self._postings.get(feature, ()):
                nearness[row] = nearness.get(row, 0.0) + count * product
        if not nearness:
            return []
        norm = math.sqrt(square)
        found = heapq.nsmallest(self._most, ((-value, row) for row, value in nearness.items()))
        return [(-value / norm, row) for value, row in found]

    def votes(self, bag: Bag) -> dict[str, float]:
        """Answer to the sum of its votes; an answer that many demonstrations share has cheaper votes."""
        found = dict.fromkeys(self._share, 0.0)
        for nearness, row in self.nearest(bag):
            answer = self.answers[row]
            found[answer] += nearness**SHARPNESS / math.sqrt(self._share[answer])
        return found

    def commonest(self) -> str:
        """The answer that most demonstrations share, the earliest such one."""
        return max(self._share, key=lambda answer: self._share[answer])

    def answer_of_nearest(self, bag: Bag) -> str:
        """The nearest demonstration's answer; the commonest one where no word is shared."""
        found = self.nearest(bag)
        return self.answers[found[0][1]] if found else self.commonest()

    def repeated(self, longest: int) -> tuple[str, ...]:
        """The distinct answers, where all are short (`longest` characters) and on average each comes twice or more."""
        distinct = tuple(self._share)
        short = all(len(answer) <= longest and "\n" not in answer for answer in distinct)
        return distinct if short and 2 * len(distinct) <= len(self.answers) else ()

    def share_of(self, test: Callable[[str, Mapping[str, str]], bool]) -> float:
        """The share of demonstrations whose answer and inputs pass `test`."""
        if test not in self._passed:
            passed = sum(test(answer, demo.inputs) for answer, demo in zip(self.answers, self._demos, strict=True))
            self._passed[test] = passed / len(self.answers)
        return self._passed[test]

    def surroundings(self, around: Callable[[str, Mapping[str, str]], str]) -> str:
        """What `around` finds of each demonstration's answer in its inputs, joined."""
        return " ".join(around(answer, demo.inputs) for answer, demo in zip(self.answers, self._demos, strict=True))
