"""Votes of the nearest demonstrations, for one output field.

Each demonstration is the bag of its inputs' words. A word weighs more the rarer it is among the demonstrations and
the more it keeps to one of the field's answers; nearness is the cosine of the weighted bags, and the nearest
demonstrations vote for their answers with a power of it. Everything is learned from the demonstrations in the prompt.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence

from dspy_actors.lm.embedded.features import Bag, document_frequencies
from dspy_actors.lm.embedded.prompt import Demo

SHARPNESS = 2.0
"""The power of the nearness that a vote counts with."""

SMOOTHING = 1.0
"""How many imaginary demonstrations of average answers each word has been seen in besides the real ones."""

KEEPING = 4.0
"""How much a word that keeps to one answer weighs above one that is spread like the answers themselves."""


class Neighbours:
    """The demonstrations that supply one field, indexed by feature."""

    __slots__ = ("_demos", "_most", "_passed", "_postings", "_share", "_unknown", "_weights", "answers")

    def __init__(self, rows: Sequence[tuple[Bag, Demo, str]]) -> None:
        bags = [bag for bag, _, _ in rows]
        self._demos = tuple(demo for _, demo, _ in rows)
        self.answers = tuple(answer for _, _, answer in rows)
        counts: dict[str, int] = {}
        for answer in self.answers:
            counts[answer] = counts.get(answer, 0) + 1
        total = len(self.answers)
        self._passed: dict[Callable[[str, Mapping[str, str]], bool], float] = {}
        self._share = {answer: count / total for answer, count in counts.items()}
        self._most = max(5, total // 3)
        self._unknown = math.log((total + 1) / 0.5)
        self._weights = self._weigh(bags)
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for row, bag in enumerate(bags):
            weighted = {feature: count * self._weights[feature] for feature, count in bag.items()}
            norm = math.sqrt(sum(weight * weight for weight in weighted.values())) or 1.0
            for feature, weight in weighted.items():
                self._postings.setdefault(feature, []).append((row, weight * self._weights[feature] / norm))

    def nearest(self, bag: Bag) -> list[tuple[float, int]]:
        """(nearness from 0 to 1, row) of the nearest demonstrations, nearest first, ties by position."""
        nearness: dict[int, float] = {}
        square = 0.0
        for feature, count in bag.items():
            weight = self._weights.get(feature, self._unknown)
            square += (count * weight) ** 2
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

    def _weigh(self, bags: Sequence[Bag]) -> dict[str, float]:
        seen: dict[str, dict[str, int]] = {}
        for bag, answer in zip(bags, self.answers, strict=True):
            for feature in bag:
                by_answer = seen.setdefault(feature, {})
                by_answer[answer] = by_answer.get(answer, 0) + 1
        frequencies = document_frequencies(bags)
        total = len(self.answers)
        return {
            feature: math.log((total + 1) / (frequency - 0.5))
            * (1.0 + KEEPING * self._keeping(seen[feature], frequency))
            for feature, frequency in frequencies.items()
        }

    def _keeping(self, by_answer: Mapping[str, int], frequency: int) -> float:
        """0 for a feature spread over the answers as they are themselves, towards 1 for one that keeps to one."""
        if len(self._share) < 2:
            return 0.0
        gain = 0.0
        for answer, share in self._share.items():
            part = (by_answer.get(answer, 0) + SMOOTHING * share) / (frequency + SMOOTHING)
            gain += part * math.log(part / share)
        return gain / math.log(len(self._share))
