"""`ChatListener`: the outputs of an answer in the chat layout, told while it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce

from dspy_actors.adapters.field_listener import FieldPiece
from dspy_actors.adapters.layout import HEADER

_BLANK = re.compile(r"[^\S\n]*")
"""White space within a line."""
_HEADER_PARTS = (r"\[", r"\[", " ", "#", "#", " ", r"\w+", " ", "#", "#", " ", r"\]", r"\]")
_BEGUN = re.compile(reduce(lambda rest, sign: f"(?:{sign}{rest})?", reversed(_HEADER_PARTS), "") + r"\Z")
"""The beginning of a header, as far as the text goes."""
_NAMING = re.compile(r"\[\[ ## \w+\Z")
_WORD = re.compile(r"\w+\Z")


class ChatListener:
    """Cuts an answer at its headers as `layout.sections` does, whatever pieces it comes in.

    Beyond the outputs' text it keeps the beginning of a header, a carriage return, and white space at the end.
    """

    def __init__(self, outputs: Iterable[str]) -> None:
        self._awaited = set(outputs)
        self._field: str | None = None
        self._begun = False  # whether the output has text yet: white space before it does not count
        self._said: list[str] = []  # text of the output that is to be told
        self._space: list[str] = []  # white space behind it
        self._rest: list[str] = []  # what may be a header, or half of a line's end
        self._naming = False  # `_rest` is in the middle of a header's name
        self._at_start = True  # of a line, white space aside
        self._at_header = False  # on the line of a header, behind it

    def feed(self, text: str) -> list[FieldPiece]:
        """See `FieldListener.feed`."""
        if self._naming and _WORD.match(text):  # a name that goes on and on is not read over and over
            self._rest.append(text)
            return []
        found: list[FieldPiece] = []
        if self._rest:
            text = "".join((*self._rest, text))
            self._rest.clear()
        half = text.endswith("\r")
        text = (text[:-1] if half else text).replace("\r\n", "\n")
        at = 0
        while at < len(text):
            at = self._line_start(text, at, half, found) if self._at_start else self._in_line(text, at)
        if half:
            self._rest.append("\r")
        self._naming = len(self._rest) == 1 and _NAMING.match(self._rest[0]) is not None
        self._tell(found)
        return found

    def end(self) -> list[FieldPiece]:
        """See `FieldListener.end`."""
        found: list[FieldPiece] = []
        self._say("".join(self._rest).rstrip("\r"))
        self._rest.clear()
        self._close(found)
        return found

    def _line_start(self, text: str, at: int, half: bool, found: list[FieldPiece]) -> int:
        blank = _BLANK.match(text, at)
        assert blank is not None
        self._keep(blank.group())
        at = blank.end()
        if at == len(text):
            return at
        if text[at] == "\n":
            return self._next_line(at)
        header = HEADER.match(text, at)
        if header is not None:
            self._close(found)
            self._open(header.group(1))
            self._at_start, self._at_header = False, True
            return header.end()
        if not half and _BEGUN.match(text, at):
            self._rest.append(text[at:])
            return len(text)
        self._at_start = False
        return at

    def _in_line(self, text: str, at: int) -> int:
        end = text.find("\n", at)
        self._say(text[at:] if end < 0 else text[at:end])
        if end < 0:
            return len(text)
        if self._at_header:  # what stands behind a header is stripped by itself
            self._space.clear()
            self._at_header = False
        return self._next_line(end)

    def _next_line(self, at: int) -> int:
        self._keep("\n")
        self._at_start = True
        return at + 1

    def _keep(self, space: str) -> None:
        if self._begun and space:
            self._space.append(space)

    def _say(self, text: str) -> None:
        if self._field is None:
            return
        said = text.rstrip()
        if said:
            self._said += [*self._space, said if self._begun else said.lstrip()]
            self._space.clear()
            self._begun = True
        self._keep(text[len(said) :])

    def _tell(self, found: list[FieldPiece], is_last: bool = False) -> None:
        if self._field is not None and (self._said or is_last):
            found.append(FieldPiece(self._field, "".join(self._said), is_last))
            self._said.clear()

    def _open(self, name: str) -> None:
        if name in self._awaited:  # the first section of a name counts
            self._awaited.remove(name)
            self._field = name

    def _close(self, found: list[FieldPiece]) -> None:
        self._tell(found, is_last=True)
        self._field = None
        self._begun = False
        self._space.clear()
