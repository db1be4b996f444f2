"""What is told of an answer while it is written: for any pieces, the text that is read from the whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspy_actors.adapters.chat_adapter import ChatAdapter
from dspy_actors.adapters.chat_listener import ChatListener
from dspy_actors.adapters.field_listener import FieldListener, FieldPiece
from dspy_actors.adapters.json_adapter import JSONAdapter
from dspy_actors.adapters.json_listener import JSONListener
from dspy_actors.adapters.layout import HEADER, sections
from dspy_actors.signature.signature import make_signature

OUTPUTS = ("a", "b")


def told(listener: FieldListener, pieces: Sequence[str]) -> list[FieldPiece]:
    """All that a listener says of an answer that comes in `pieces`."""
    return [said for piece in pieces for said in listener.feed(piece)] + list(listener.end())


def joined(pieces: Sequence[FieldPiece]) -> dict[str, str]:
    """The text of each output that was told, in the order they began."""
    texts: dict[str, list[str]] = {}
    for piece in pieces:
        texts.setdefault(piece.field, []).append(piece.text)
    return {field: "".join(parts) for field, parts in texts.items()}


def ends_are_right(pieces: Sequence[FieldPiece]) -> bool:
    """Whether each output ends once, on its last piece, before another begins."""
    last = {piece.field: at for at, piece in enumerate(pieces)}
    order = [piece.field for at, piece in enumerate(pieces) if not at or pieces[at - 1].field != piece.field]
    flagged = {at for at, piece in enumerate(pieces) if piece.is_last}
    return flagged == set(last.values()) and max(Counter(order).values(), default=1) == 1


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text` in pieces."""
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


PLACES = st.lists(st.integers(0, 10_000), max_size=30)

# -- chat --------------------------------------------------------------------------------------------------------

MARKS = ["[[ ## a ## ]]", "[[ ## b ## ]]", "[[ ## completed ## ]]", "[[ ## other ## ]]", "\n[[ ## a ## ]] x \n"]
HALVES = ["[[ ##", "[[ ## a", "## ]]", "[", "]"]
SPACES = ["\n", "\n\n", "\r\n", "\r", " ", "\t", "\x0b", "\u2028"]
BITS = st.sampled_from([*MARKS, *HALVES, *SPACES, "word", "two words", "ü", "😀", "a"])
ANSWERS = st.lists(BITS, max_size=25).map("".join)


def chat_texts(text: str) -> dict[str, str]:
    """What the chat adapter reads outputs from."""
    found: dict[str, str] = {}
    for name, content in sections(text):
        if name in OUTPUTS:
            found.setdefault(str(name), content)
    return found


def certain(text: str) -> dict[str, str]:
    """What can be told of the outputs of an answer that begins with `text`, however it goes on."""
    known = text.removesuffix("\r")
    before, _, line = known.rpartition("\n")
    last = line.lstrip()
    whole = "[[ ## x ## ]]"
    may_be_header = not text.endswith("\r") and not HEADER.match(last)
    if last and may_be_header and any(HEADER.fullmatch(last + whole[at:]) for at in range(len(whole))):
        known = before
    return chat_texts(known)  # which alone turns line ends into line feeds: done twice, it would be for `\r\r\n`


@given(text=ANSWERS, places=PLACES)
def test_pieces_of_a_chat_answer_are_what_is_read_from_it(text: str, places: list[int]) -> None:
    pieces = told(ChatListener(OUTPUTS), cut(text, places))

    assert joined(pieces) == chat_texts(text)
    assert ends_are_right(pieces)


@example(text="\n[[ ## a ## ]] x \n\r\r\n[[ ##[[ ## a ## ]]", places=[])
@given(text=ANSWERS, places=PLACES)
def test_nothing_of_a_chat_answer_is_held_back_that_is_certain(text: str, places: list[int]) -> None:
    listener = ChatListener(OUTPUTS)
    said: list[FieldPiece] = []
    so_far = ""
    for piece in cut(text, places):
        said += listener.feed(piece)
        so_far += piece
        known = {name: value for name, value in certain(so_far).items() if value}

        assert {name: value for name, value in joined(said).items() if value} == known


@given(text=ANSWERS, places=PLACES)
def test_pieces_are_the_same_whatever_the_answer_was_cut_to_before(text: str, places: list[int]) -> None:
    whole = joined(told(ChatListener(OUTPUTS), [text]))

    assert joined(told(ChatListener(OUTPUTS), cut(text, places))) == whole == joined(told(ChatListener(OUTPUTS), text))


@given(first=st.text(), second=st.text(), places=PLACES)
def test_any_texts_come_through_the_chat_layout(first: str, second: str, places: list[int]) -> None:
    adapter, signature = ChatAdapter(), make_signature("q -> a, b")
    text = adapter.assistant_text(signature, {"a": first, "b": second})

    assert joined(told(adapter.listener(signature), cut(text, places))) == adapter.parse(signature, text)


NASTY = "[[ ## a ## ]] one \r\n\rtwo\rthree \r\n [[ ## x\r\n[[ ## b ##]]\n\t[[ ## b ## ]]\r\n\r\n four [[ ## a ## ]]\r"


def test_line_ends_that_come_in_halves_are_read_as_whole_ones() -> None:
    assert joined(told(ChatListener(OUTPUTS), NASTY)) == chat_texts(NASTY)


def test_a_word_is_told_at_once_and_a_mark_never() -> None:
    listener = ChatListener(OUTPUTS)

    assert [listener.feed(piece) for piece in ("[[ ## a ## ]]\n", "one", " two", "\n\n[[ ## b", " ## ]]\nx")] == [
        [],
        [("a", "one", False)],
        [("a", " two", False)],
        [],
        [("a", "", True), ("b", "x", False)],
    ]
    assert listener.end() == [("b", "", True)]


def test_the_last_words_carry_the_mark_of_the_end_where_they_come_with_it() -> None:
    assert ChatListener(OUTPUTS).feed("[[ ## a ## ]]\none\n[[ ## completed ## ]]") == [("a", "one", True)]


def test_an_output_without_text_ends_too() -> None:
    assert told(ChatListener(OUTPUTS), ["[[ ## a ## ]]\n\n[[ ## completed ## ]]"]) == [("a", "", True)]


def test_a_listener_is_made_for_each_call() -> None:
    adapter, signature = ChatAdapter(), make_signature("q -> a")

    assert adapter.listener(signature) is not adapter.listener(signature)


@pytest.mark.parametrize("runaway", ["[[ ## " + "x" * 50_000, "[[ ## a ## ]]\nx" + " " * 50_000, "\n" * 50_000])
def test_a_runaway_mark_is_read_in_linear_time(runaway: str) -> None:
    """Read over and over it would take minutes."""
    assert joined(told(ChatListener(OUTPUTS), runaway)) == chat_texts(runaway)


# -- JSON --------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SPACE = st.sampled_from(["", "", " ", "\n", "\n  ", "\t"])


@st.composite
def written(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, str]]:
    """An object as some model writes it; its values; and the text of each output."""
    keys = draw(st.lists(st.sampled_from(["a", "b", "c", "\u00fc", 'q"', "a.b"]), unique=True, max_size=5))
    entries: list[str] = []
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for key in keys:
        value = values[key] = draw(VALUES)
        raw = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        entries.append(f"{draw(SPACE)}{name}{draw(SPACE)}:{draw(SPACE)}{raw}{draw(SPACE)}")
        if key in OUTPUTS:
            texts[key] = value if isinstance(value, str) else raw
    before = draw(st.sampled_from(["", "", "\n", "```json\n", "Here it is:\n"]))
    behind = draw(st.sampled_from(["", "\n", "\n```", ' {"a": "another"}']))
    return f"{before}{{{','.join(entries) or draw(SPACE)}}}{behind}", values, texts


@given(answer=written(), places=PLACES)
def test_pieces_of_a_json_answer_are_its_texts(
    answer: tuple[str, dict[str, Any], dict[str, str]], places: list[int]
) -> None:
    text, _, texts = answer
    pieces = told(JSONListener(OUTPUTS), cut(text, places))

    assert joined(pieces) == texts
    assert ends_are_right(pieces)


@given(answer=written(), places=PLACES)
def test_what_is_told_of_a_json_answer_is_what_is_read(
    answer: tuple[str, dict[str, Any], dict[str, str]], places: list[int]
) -> None:
    text, values, texts = answer
    said = joined(told(JSONListener(OUTPUTS), cut(text, places)))
    if not texts:
        return
    kinds = {name: "str" if isinstance(values[name], str) else "Any" for name in texts}
    signature = make_signature("q -> " + ", ".join(f"{name}: {kind}" for name, kind in kinds.items()))
    read = JSONAdapter().parse(signature, text)

    assert {name: said[name] if kinds[name] == "str" else json.loads(said[name]) for name in said} == read


@given(value=st.text(), ascii_only=st.booleans(), places=PLACES)
def test_of_a_string_only_an_unfinished_escape_is_held_back(value: str, ascii_only: bool, places: list[int]) -> None:
    listener = JSONListener(OUTPUTS)
    said = "".join(piece.text for piece in listener.feed('{"a": "'))
    so_far = ""
    for piece in cut(json.dumps(value, ensure_ascii=ascii_only)[1:-1], places):
        so_far += piece
        said += "".join(told.text for told in listener.feed(piece))
        kept = next(kept for kept in range(13) if loads_or_none(so_far[: len(so_far) - kept]) == said)

        assert said == loads_or_none(so_far[: len(so_far) - kept])
        assert kept == 0 or so_far[len(so_far) - kept] == "\\"
    assert said == value


def loads_or_none(inside: str) -> str | None:
    """The text that the inside of a JSON string stands for; `None` where it ends within an escape."""
    try:
        value: str = json.loads(f'"{inside}"')
    except ValueError:
        return None
    return value


@given(text=st.text(alphabet='{}[]:,"\\ abu1\n', max_size=80), places=PLACES)
def test_what_is_told_does_not_depend_on_the_pieces(text: str, places: list[int]) -> None:
    pieces = told(JSONListener(OUTPUTS), cut(text, places))

    assert joined(pieces) == joined(told(JSONListener(OUTPUTS), [text]))
    assert ends_are_right(pieces)


def test_an_answer_that_is_cut_off_is_told_as_far_as_it_goes() -> None:
    text = '{"a": "one", "b": "tw'

    assert told(JSONListener(OUTPUTS), text)[-2:] == [("b", "w", False), ("b", "", True)]
    assert joined(told(JSONListener(OUTPUTS), [text])) == JSONAdapter().parse(make_signature("q -> a, b"), text)


def test_of_two_values_of_one_key_the_first_is_told() -> None:
    assert told(JSONListener(OUTPUTS), ['{"a": "one", "a": "two"}']) == [("a", "one", True)]


def test_a_brace_in_a_sentence_is_no_answer() -> None:
    assert joined(told(JSONListener(OUTPUTS), ['In {braces}: {"a": "one"}'])) == {"a": "one"}


def test_inner_keys_are_no_outputs() -> None:
    assert joined(told(JSONListener(OUTPUTS), ['{"c": {"a": 1, "d": [{"b": 2}]}, "b": 3}'])) == {"b": "3"}


@pytest.mark.parametrize("runaway", ['{"a": "' + "x" * 50_000, '{"c": ' + "[" * 50_000, '{"a": ' + " " * 50_000])
def test_a_runaway_value_is_read_in_linear_time(runaway: str) -> None:
    """Read over and over it would take minutes."""
    assert len(joined(told(JSONListener(OUTPUTS), runaway)).get("a", "")) in (0, 50_000)
