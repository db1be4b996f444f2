"""What the instructions say of each option: the words by which an input may be matched without a demonstration.

An option is hinted at by its own name and by what the instructions and the field's description say next to that name:
the whole sentence where it names only this option, else the words from one option's name to the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from dspy_actors.lm.embedded.features import Bag, content_words, tokens

NAME_WEIGHT = 3.0
"""How much a word of the option's name weighs against a word said of it."""

_CLAUSE = re.compile(r"[\n;]+|(?<=[.!?])\s+")


class Hints:
    """The words that speak for each option of one field."""

    __slots__ = ("_hints", "options")

    def __init__(self, options: Sequence[str], texts: Sequence[str]) -> None:
        self.options = tuple(options)
        said: dict[str, dict[str, float]] = {option: {} for option in self.options}
        names = {option: tokens(option) for option in self.options}
        for text in texts:
            for clause in _CLAUSE.split(text):
                _hear(clause, names, said)
        shared = self._shared(said)
        for option, words in names.items():
            for word in words:
                said[option][word] = NAME_WEIGHT
                shared.setdefault(word, 1)
        self._hints: dict[str, list[tuple[str, float]]] = {}
        for option, weights in said.items():
            for word, weight in weights.items():
                rarity = math.log(1 + len(self.options) / shared.get(word, 1))
                self._hints.setdefault(word, []).append((option, weight * rarity))

    def match(self, bag: Bag) -> dict[str, float]:
        """Option to how strongly the words of the input speak for it; 0 for all where none does."""
        found = dict.fromkeys(self.options, 0.0)
        for feature, count in bag.items():
            for option, weight in self._hints.get(feature, ()):
                found[option] += count * weight
        return found

    @staticmethod
    def _shared(said: dict[str, dict[str, float]]) -> dict[str, int]:
        shared: dict[str, int] = {}
        for weights in said.values():
            for word in weights:
                shared[word] = shared.get(word, 0) + 1
        return shared


def _hear(clause: str, names: dict[str, list[str]], said: dict[str, dict[str, float]]) -> None:
    """Book the words of one clause with the options that it names."""
    words = tokens(clause)
    places = sorted(
        (at, -len(name), option)
        for option, name in names.items()
        if name
        for at in range(len(words) - len(name) + 1)
        if words[at : at + len(name)] == name
    )
    if not places:
        return
    if len({option for _, _, option in places}) == 1:
        spans = [(places[0][2], clause)]
    else:
        ends = [at for at, _, _ in places[1:]] + [len(words)]
        spans = [
            (option, " ".join(words[at - negative : end]))
            for (at, negative, option), end in zip(places, ends, strict=True)
        ]
    for option, text in spans:
        for word in content_words(text):
            said[option][word] = 1.0
