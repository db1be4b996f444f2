"""A chat adapter's prompt read back: from the text of the messages to fields, demonstrations and the request.

Only the text is read. A model has nothing else, and this one is given no more than any other. The layout is the one
described in `dspy_actors.adapters.chat_adapter`: numbered lists of input and output fields, a block a field under its
header, the instructions, then demonstrations as pairs of turns and the request as the last turn. Reading goes by
structure as far as it can, so a prompt in other words (DSPy's own) is read as well.

`LAYOUTS` is the list of layouts this model can read; another reply format is another entry.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from dspy_actors.adapters.layout import COMPLETED, INDENT, JSON_REMINDER, NOT_GIVEN, OPTION_BREAK, REMINDER, header
from dspy_actors.types.python_names import python_name

Kind = Literal["choice", "number", "text", "structure"]

_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_FIELD_LINE = re.compile(r"^[ \t]*(\d+)\. `(\w+)` \(", re.MULTILINE)
_INLINE_HEADER = re.compile(r"\[\[ ## \w+ ## \]\]")
_END = "completed"
_TEMPLATE = re.compile(r"^\{\n.*?^\}", re.MULTILINE | re.DOTALL)
_NOT_SUPPLIED = re.compile(r"^\W*not supplied\b", re.IGNORECASE)


class UnreadablePrompt(ValueError):
    """The messages are in no layout of `LAYOUTS`; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class FieldNote:
    """What the system message says of a field. `options` are the only values it may take, in the schema's order."""

    name: str
    type: str
    desc: str
    kind: Kind
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The system message, read: the fields in order and the instructions."""

    inputs: tuple[FieldNote, ...]
    outputs: tuple[FieldNote, ...]
    instructions: str


@dataclass(frozen=True, slots=True)
class Demo:
    """A demonstration: the values it shows; a field it does not supply is absent."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class PromptLayout(Protocol):
    """One way to write prompts and answers, read and written back."""

    def read_system(self, text: str) -> Layout:
        """The fields and instructions of a system message. Raises `UnreadablePrompt`."""

    def read_demo(self, layout: Layout, question: str, answer: str) -> Demo:
        """A pair of turns. Raises `UnreadablePrompt`."""

    def read_request(self, layout: Layout, text: str) -> Mapping[str, str]:
        """The values of the last turn. Raises `UnreadablePrompt`."""

    def write_answer(self, values: Sequence[tuple[str, str]]) -> str:
        """The completion for these output values."""


class HeaderLayout:
    """The chat adapter's layout: `[[ ## name ## ]]` headers in the question and in the answer."""

    def read_system(self, text: str) -> Layout:
        first = _HEADER.search(text)
        if first is None:
            raise UnreadablePrompt("the system message shows no `[[ ## field ## ]]` header")
        inputs, outputs = _field_lists(text[: first.start()])
        notes, objective = _blocks(text[first.start() :])
        known = {name for name, _, _ in (*inputs, *outputs)}
        if not outputs or not known <= set(notes):
            raise UnreadablePrompt("the system message lists no output fields or shows no block for some field")
        return Layout(
            tuple(_field_note(name, kind, desc, "") for name, kind, desc in inputs),
            tuple(_field_note(name, kind, desc, notes[name]) for name, kind, desc in outputs),
            _instructions(objective),
        )

    def read_demo(self, layout: Layout, question: str, answer: str) -> Demo:
        inputs = _sections(_without_reminder(question), {field.name for field in layout.inputs})
        outputs = _sections(answer, {field.name for field in layout.outputs})
        supplied = {name: value for name, value in outputs.items() if not _is_missing(value)}
        if not outputs:
            raise UnreadablePrompt("an assistant turn shows none of the output fields")
        return Demo(inputs, supplied)

    def read_request(self, layout: Layout, text: str) -> Mapping[str, str]:
        values = _sections(_without_reminder(text), {field.name for field in layout.inputs})
        if not values:
            raise UnreadablePrompt("the last turn shows none of the input fields")
        return values

    def write_answer(self, values: Sequence[tuple[str, str]]) -> str:
        return "\n\n".join([*(f"{header(name)}\n{value}" for name, value in values), COMPLETED])


class ObjectLayout(HeaderLayout):
    """The JSON adapter's layout: headers in the question, one JSON object in the answer and in the system message."""

    def read_system(self, text: str) -> Layout:
        first = _HEADER.search(text)
        template = _TEMPLATE.search(text)
        slots = None if template is None else _object_in(template.group())
        if first is None or template is None or slots is None:
            raise UnreadablePrompt("the system message shows no `[[ ## field ## ]]` header and no JSON object")
        inputs, outputs = _field_lists(text[: first.start()])
        if not outputs or not {name for name, _, _ in outputs} <= set(slots):
            raise UnreadablePrompt("the system message lists no output fields or shows no key for some field")
        return Layout(
            tuple(_field_note(name, kind, desc, "") for name, kind, desc in inputs),
            tuple(_field_note(name, kind, desc, slots[name]) for name, kind, desc in outputs),
            _instructions(text[template.end() :]),
        )

    def read_demo(self, layout: Layout, question: str, answer: str) -> Demo:
        inputs = _sections(_without_reminder(question), {field.name for field in layout.inputs})
        written = _object_in(answer) or {}
        outputs = {field.name: written[field.name] for field in layout.outputs if field.name in written}
        if not outputs:
            raise UnreadablePrompt("an assistant turn is no JSON object with an output field")
        return Demo(inputs, {name: value for name, value in outputs.items() if not _is_missing(value)})

    def write_answer(self, values: Sequence[tuple[str, str]]) -> str:
        return json.dumps(dict(values), ensure_ascii=False, indent=2)


LAYOUTS: tuple[PromptLayout, ...] = (HeaderLayout(), ObjectLayout())


def read_system(text: str) -> tuple[PromptLayout, Layout]:
    """The first layout that can read this system message. Raises `UnreadablePrompt`."""
    problem = UnreadablePrompt("no layout is known")
    for layout in LAYOUTS:
        try:
            return layout, layout.read_system(text)
        except UnreadablePrompt as error:
            problem = error
    raise problem


def without_headers(text: str) -> str:
    """`text` without field headers, so that an extract of it cannot open a section of the answer."""
    return _INLINE_HEADER.sub(" ", text) if "[[" in text else text


def _object_in(text: str) -> dict[str, str] | None:
    """A JSON object's values as the text that stands for them; `None` for what is no object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {name: _as_text(value) for name, value in found.items()}


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (bool, int, float)) else json.dumps(value, ensure_ascii=False)


def _field_lists(text: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(name, type, description) of the two numbered lists: the second begins where the numbers begin again."""
    lists: list[list[tuple[str, str, str]]] = []
    matches = list(_FIELD_LINE.finditer(text))
    for index, match in enumerate(matches):
        end = matches[index + 1].start() if index + 1 < len(matches) else len(text)
        close = _closing(text, match.end(), end)
        if match.group(1) == "1":
            lists.append([])
        if lists:
            lists[-1].append((match.group(2), text[match.end() : close], _description(text[close + 1 : end])))
    if len(lists) == 1:
        return [], lists[0]
    return (lists[0], lists[1]) if len(lists) == 2 else ([], [])


def _closing(text: str, start: int, end: int) -> int:
    """Where the parenthesis opened before `start` closes; quotes in a type may hold brackets of their own."""
    depth, quote, at = 1, "", start
    while at < end:
        char = text[at]
        if quote:
            at += char == "\\"
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return end


def _description(text: str) -> str:
    """A field's description: its lines as far as the next empty one, without the sentence that opens a list."""
    lines = text.lstrip(":").strip(" ").split("\n")
    kept = [lines[0].strip()]
    for line in lines[1:]:
        if not line.startswith((" ", "\t")):
            break
        kept.append(line.strip())
    return " ".join(kept).strip()


def _blocks(text: str) -> tuple[dict[str, str], str]:
    """The text under each header as far as `completed`, and what stands behind that one."""
    blocks: dict[str, str] = {}
    matches = list(_HEADER.finditer(text))
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        if match.group(1) == _END:
            return blocks, text[match.end() :]
        blocks.setdefault(match.group(1), text[match.end() : following.start() if following else len(text)])
    return blocks, ""


def _instructions(text: str) -> str:
    """The objective: the indented lines, or everything where none is."""
    lines = text.strip("\n").split("\n")
    indented = [line[len(INDENT) :] for line in lines if line.startswith(INDENT)]
    return "\n".join(indented or lines).strip()


def _field_note(name: str, annotation: str, desc: str, note: str) -> FieldNote:
    bare = _bare(annotation)
    options = None
    if bare.startswith("Literal["):
        options = _literal_options(bare, _listed_options(name, note, is_list=annotation == bare))
    if options is None and bare == "bool":
        options = ("True", "False")
    if options is None and bare not in ("str", "int", "float"):
        options = _listed_options(name, note)
    if options:
        return FieldNote(name, annotation, desc, "choice", options)
    kind: Kind = "text" if bare == "str" else "number" if bare in ("int", "float") else "structure"
    return FieldNote(name, annotation, desc, kind)


def _bare(annotation: str) -> str:
    """The type without `None`: `Union[str, NoneType]` and `Optional[str]` are `str`."""
    found = re.fullmatch(r"(?:Optional|Union)\[(.*)\]", annotation)
    if found is None:
        return re.sub(r"\s*\|\s*None$", "", annotation)
    return re.sub(r",\s*None(?:Type)?$", "", found.group(1))


def _literal_options(bare: str, listed: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The options of a `Literal`: the listed ones where they are spelled like the type, else those in the type.

    The type alone does not always say: DSPy's spelling does not escape backslashes. The list alone does not either:
    an option may hold the break between options.
    """
    if listed and python_name(Literal[listed]) == bare:
        return listed
    try:
        value = ast.literal_eval(f"({bare.removeprefix('Literal[').removesuffix(']')},)")
    except (ValueError, SyntaxError):
        return listed
    return tuple(dict.fromkeys(str(option) for option in value))


def _listed_options(name: str, note: str, *, is_list: bool = False) -> tuple[str, ...] | None:
    """The options of an enum or a `Literal`: the only notes that end in a list and not in a schema.

    With `is_list` it cannot be a schema, even if its first option begins like one.
    """
    _, placeholder, rest = note.partition("{" + name + "}")
    _, colon, listed = rest.partition(": ")
    listed = listed.strip("\n")
    if not placeholder or not colon or not listed or (listed.startswith(("{", "[")) and not is_list):
        return None
    return tuple(dict.fromkeys(option for option in listed.split(OPTION_BREAK) if option))


def _sections(text: str, names: set[str]) -> dict[str, str]:
    """The text under each header of `names`; the first of a name wins, other headers are ordinary text."""
    values: dict[str, str] = {}
    current, start = None, 0
    for match in _HEADER.finditer(text):
        name = match.group(1)
        if name not in names and name != _END:
            continue
        if current is not None:
            values.setdefault(current, text[start : match.start()].strip())
        current, start = (name if name in names else None), match.end()
    if current is not None:
        values.setdefault(current, text[start:].strip())
    return values


def _is_missing(value: str) -> bool:
    return value == NOT_GIVEN or _NOT_SUPPLIED.match(value) is not None


def _without_reminder(text: str) -> str:
    """A question without its last paragraph, where that is the reminder of the answer's layout."""
    at = max(text.rfind(f"\n\n{REMINDER}"), text.rfind(f"\n\n{JSON_REMINDER}"))
    if at < 0 and COMPLETED in text:
        at = text.rstrip().rfind("\n\n")
        at = -1 if COMPLETED not in text[at:] or _HEADER.match(text[at:].lstrip()) else at
    return text if at < 0 else text[:at]
