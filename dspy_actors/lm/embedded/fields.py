"""The answer for one output field, by what kind of value it wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspy_actors.lm.embedded import extract
from dspy_actors.lm.embedded.features import Bag
from dspy_actors.lm.embedded.limits import refuse
from dspy_actors.lm.embedded.neighbours import Neighbours
from dspy_actors.lm.embedded.prompt import FieldNote
from dspy_actors.lm.embedded.reading import Reading
from dspy_actors.lm.embedded.trust import clearly_common

PRIOR = 0.1
"""What the strongest hint adds to an option's votes, where there are votes; nearness votes are between 0 and 1."""

_SHORT = 40


def answer_field(reading: Reading, field: FieldNote, values: Mapping[str, str], words: Bag, model: str) -> str:
    """The value for `field`. Raises `LMUnsupportedFeatureError` where nothing in the prompt gives one."""
    neighbours = reading.neighbours(field)
    twins = reading.twins(field, values) if neighbours else []
    if field.kind == "choice":
        return _choose(reading, field, field.options, words, neighbours, twins)
    if twins:
        return max(twins, key=twins.count)
    if field.kind == "number":
        return _number(field, values, words, neighbours, model)
    if field.kind == "text":
        return _text(reading, field, values, words, neighbours, model)
    if neighbours is None:
        raise refuse(f"make up a value of type {field.type} for `{field.name}` without demonstrations", model)
    return neighbours.answer_of_nearest(words)


def _choose(
    reading: Reading,
    field: FieldNote,
    options: Sequence[str],
    words: Bag,
    neighbours: Neighbours | None,
    twins: Sequence[str] = (),
) -> str:
    """The option with most votes and hints; ties go to the one listed first."""
    hinted = reading.hints(field, options).match(words)
    strongest = max(hinted.values(), default=0.0)
    scale = PRIOR / strongest if strongest else 0.0
    votes = neighbours.votes(words) if neighbours and neighbours.teach else {}
    common = None
    if neighbours and not strongest and not any(votes.values()):
        common = neighbours.commonest() if neighbours.teach else clearly_common(neighbours.answers, len(options))
    return max(
        options,
        key=lambda option: (twins.count(option), votes.get(option, 0.0) + scale * hinted[option], option == common),
    )


def _number(field: FieldNote, values: Mapping[str, str], words: Bag, neighbours: Neighbours | None, model: str) -> str:
    asked = f"{field.name.replace('_', ' ')} {field.desc}"
    found = extract.numbers(values, whole="int" in field.type)
    if neighbours is None:
        if not found:
            raise refuse(f"find a number for `{field.name}`: there is none in the inputs and no demonstration", model)
        return extract.best_number(found, asked)
    copied = neighbours.share_of(extract.is_number_of)
    if found and copied > 0.5:
        return extract.best_number(found, f"{asked} {neighbours.surroundings(extract.around_number)}")
    return _voted(neighbours, words)


def _text(
    reading: Reading, field: FieldNote, values: Mapping[str, str], words: Bag, neighbours: Neighbours | None, model: str
) -> str:
    if neighbours is not None:
        labels = neighbours.repeated(_SHORT)
        if labels:
            return _choose(reading, field, labels, words, neighbours)
        if neighbours.share_of(extract.is_extract_of) <= 0.5:
            return neighbours.answer_of_nearest(words)
    options = (option for other in reading.layout.outputs for option in other.options)
    asked = " ".join((field.name.replace("_", " "), field.desc, reading.layout.instructions, *options))
    found = extract.best_sentence(values, asked)
    if not found:
        raise refuse(f"write `{field.name}` when every input is empty", model)
    return found


def _voted(neighbours: Neighbours, words: Bag) -> str:
    votes = neighbours.votes(words)
    best = max(votes, key=lambda answer: votes[answer])
    return best if votes[best] and neighbours.teach else neighbours.commonest()
