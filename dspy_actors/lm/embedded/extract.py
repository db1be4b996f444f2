"""Extracts: the sentence of an input, or the number in it, that an output field asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dspy_actors.lm.embedded.features import content_words
from dspy_actors.lm.embedded.prompt import without_headers

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
_NEAR = 24
LONGEST = 400
"""Characters of an extract at most; a longer sentence is cut behind a word."""


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, blanks collapsed."""
    parts = (" ".join(part.split()) for part in _SENTENCE.split(without_headers(text)))
    return [part for part in parts if part]


def best_sentence(values: Mapping[str, str], asked: str) -> str:
    """The sentence of the longest input that shares most with the other inputs and with `asked`.

    The first one where none shares anything; empty where all inputs are.
    """
    longest = max(values, key=lambda name: len(values[name]), default="")
    others = " ".join(value for name, value in values.items() if name != longest)
    questions = content_words(others)
    wanted = content_words(asked)
    best, best_score = "", -1.0
    for sentence in sentences(values.get(longest, "")):
        words = content_words(sentence)
        score = sum((3.0 if word in questions else 0.0) + (1.0 if word in wanted else 0.0) for word in words)
        score /= (8 + len(words)) ** 0.5
        if score > best_score:
            best, best_score = sentence, score
    return best if len(best) <= LONGEST else best[:LONGEST].rpartition(" ")[0] or best[:LONGEST]


def numbers(values: Mapping[str, str], *, whole: bool) -> list[tuple[str, str]]:
    """(number without thousands commas, the words around it) for each number in the inputs, in order.

    The words around it reach as far as the next number on either side, 24 characters at most.
    """
    found = []
    for text in values.values():
        matches = list(_NUMBER.finditer(text))
        ends = [0, *(match.end() for match in matches)]
        starts = [*(match.start() for match in matches[1:]), len(text)]
        for match, end, start in zip(matches, ends, starts, strict=False):
            number = match.group().replace(",", "").lstrip("+")
            if not whole or "." not in number:
                before = text[max(end, match.start() - _NEAR) : match.start()]
                found.append((number, f"{before} {text[match.end() : min(start, match.end() + _NEAR)]}"))
    return found


def best_number(candidates: Sequence[tuple[str, str]], asked: str) -> str:
    """The number whose surroundings share most words with `asked`, the first such one."""
    wanted = content_words(asked)
    return max(candidates, key=lambda pair: sum(word in wanted for word in content_words(pair[1])))[0]


def is_number_of(answer: str, values: Mapping[str, str]) -> bool:
    """Whether `answer` is one of the numbers in the inputs."""
    return bool(_places(answer, values))


def around_number(answer: str, values: Mapping[str, str]) -> str:
    """The words around the first place where the number `answer` stands in the inputs; empty without one."""
    return next(iter(_places(answer, values)), "")


def _places(answer: str, values: Mapping[str, str]) -> list[str]:
    try:
        wanted = float(answer)
    except ValueError:
        return []
    return [around for number, around in numbers(values, whole=False) if float(number) == wanted]


def is_extract_of(answer: str, values: Mapping[str, str]) -> bool:
    """Whether `answer` stands word for word in one of the inputs."""
    wanted = " ".join(answer.casefold().split())
    return bool(wanted) and any(wanted in " ".join(value.casefold().split()) for value in values.values())
