"""Text into word features: tokens, light stems, bags of single words and neighbouring pairs.

Pure and deterministic: nothing here depends on `hash()`, on the order of a set or on a random number, so that the
same text gives the same bag in every process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TypeAlias

Bag: TypeAlias = Mapping[str, float]
"""Feature to weight, in order of first appearance."""

PAIR_WEIGHT = 0.6
"""What a pair of neighbouring words weighs against a single word."""

STOP_WEIGHT = 0.5
"""What a word like `my` or `with` weighs: little of the subject, something of the tone."""

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[!?]")
_PIECE = re.compile(r"\w{1,6}|[^\w\s]")

_STOPS = (
    "a an and are as at be been but by for from had has have he her his i if in into is it its me my of on or our "
    "she so that the their them then there these they this those to us was we were which who will with you your"
)

STOP_WORDS = frozenset(_STOPS.split())
"""Words that carry no subject of their own."""

NUMBER = "#"
"""What a number of four digits or more becomes: an order number is a sign that there is one, not a word."""


def tokens(text: str) -> list[str]:
    """The words of `text` in order: lower case, apostrophes dropped, stemmed; `!` and `?` count as words."""
    found = []
    for raw in _TOKEN.findall(text.casefold()):
        if raw[0].isdigit():
            found.append(NUMBER if raw.isdigit() and len(raw) > 3 else raw)
        elif raw in STOP_WORDS:
            found.append(raw)
        else:
            found.append(stem(raw))
    return found


def stem(word: str) -> str:
    """`word` without the commonest English endings, so that `shipping`, `shipped` and `ships` are one word.

    A light stemmer: it errs towards leaving words apart. Expects lower case.
    """
    if "'" in word or "\u2019" in word:
        head, _, tail = word.replace("\u2019", "'").partition("'")
        word = head if tail == "s" else head + tail.replace("'", "")
    if len(word) <= 3:
        return word
    word = _without_plural(word)
    for ending in ("ations", "ation", "ments", "ment", "ings", "ing", "ied", "ed", "ly"):
        if word.endswith(ending) and _has_vowel(word[: -len(ending)]) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ied" else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and (word[-1] not in "lsz" or len(word) > 5):
        word = word[:-1]
    if len(word) > 3 and word[-1] == "e":
        return word[:-1]
    if len(word) > 6 and word[-1] == "y":
        return word[:-1]
    return word


def _without_plural(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _has_vowel(word: str) -> bool:
    return any(letter in "aeiouy" for letter in word)


def bag(text: str) -> dict[str, float]:
    """The features of a text: its words and its pairs of neighbouring words, weighted by `1 + ln(count)`.

    A pair of two stop words is left out: `no rush` and `as soon` say something, `as the` does not.
    """
    words: dict[str, int] = {}
    pairs: dict[str, int] = {}
    previous = ""
    for token in tokens(text):
        words[token] = words.get(token, 0) + 1
        if previous and not (token in STOP_WORDS and previous in STOP_WORDS):
            pair = f"{previous} {token}"
            pairs[pair] = pairs.get(pair, 0) + 1
        previous = token
    found = {word: (STOP_WEIGHT if word in STOP_WORDS else 1.0) * _damped(count) for word, count in words.items()}
    found.update((pair, PAIR_WEIGHT * _damped(count)) for pair, count in pairs.items())
    return found


def _damped(count: int) -> float:
    return 1.0 if count == 1 else 1.0 + math.log(count)


def content_words(text: str) -> dict[str, None]:
    """The distinct words of a text that carry a subject, in order of first appearance."""
    return {token: None for token in tokens(text) if token not in STOP_WORDS and token not in ("!", "?", NUMBER)}


def count_pieces(text: str) -> int:
    """An estimate of how many tokens a byte-pair tokeniser would make of `text`: pieces of up to six letters."""
    return len(_PIECE.findall(text))


def cut_pieces(text: str, limit: int) -> str:
    """The first `limit` pieces of `text`, as a model would stop at `max_tokens`."""
    for number, piece in enumerate(_PIECE.finditer(text), 1):
        if number > limit:
            return text[: piece.start()]
    return text
