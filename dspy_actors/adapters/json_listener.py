"""`JSONListener`: the outputs of an answer that is a JSON object, told while it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from dspy_actors.adapters.field_listener import FieldPiece

_SPACE = re.compile(r"\s*")
_PLAIN = re.compile(r'[^"\\]*')
"""Characters of a string that stand for themselves; line feeds too, though JSON wants them escaped."""
_SCALAR = re.compile(r"[^\s,}\]]*")
_FLAT = re.compile(r'[^"{}\[\]]*')
"""What neither opens nor closes anything."""
_LOW_HALF = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_LOW_BEGUN = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z")
_HEX = re.compile(r"[0-9a-fA-F]*\Z")
_SIGNS = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class JSONListener:
    """Follows the first JSON object of an answer; the values of its outermost keys are the outputs.

    A string is told as the text it stands for, any other value as it is written. What stands before the object (a
    code fence, a sentence) is passed over. Where the text stops being JSON it tells no more: a repaired answer may
    hold more than was told. The first of two values of one key counts. Nothing but an unfinished escape is held back.
    """

    def __init__(self, outputs: Iterable[str]) -> None:
        self._awaited = set(outputs)
        self._field: str | None = None
        self._said: list[str] = []
        self._found: list[FieldPiece] = []
        self._rest = ""
        self._key: list[str] | None = None  # the key being read
        self._name = ""
        self._named = False  # whether an output was met
        self._depth = 0
        self._quoted = False  # inside a string of a value that is told as it is written
        self._step: Callable[[str, int], int | None] = self._seek

    def feed(self, text: str) -> list[FieldPiece]:
        """See `FieldListener.feed`."""
        self._found = []
        text = self._rest + text
        self._rest = ""
        at = 0
        while at < len(text):
            here = self._step(text, at)
            if here is None:
                self._rest = text[at:]
                break
            at = here
        self._tell()
        return self._found

    def end(self) -> list[FieldPiece]:
        """See `FieldListener.end`."""
        self._found = []
        self._close()
        self._step = self._done
        return self._found

    # -- where in the object ------------------------------------------------------------------------------------
    # Each step reads on from `at` and says how far it came; `None`: the text ends in the middle of an escape.

    def _seek(self, text: str, at: int) -> int:
        found = text.find("{", at)
        if found < 0:
            return len(text)
        self._step = self._before_key
        return found + 1

    def _before_key(self, text: str, at: int) -> int:
        at = _past_space(text, at)
        if at == len(text):
            return at
        if text[at] == '"':
            self._key = []
            self._step = self._string
            return at + 1
        if text[at] == "}":
            self._step = self._done
            return at + 1
        return self._lose(at)

    def _before_colon(self, text: str, at: int) -> int:
        at = _past_space(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            return self._lose(at)
        self._step = self._before_value
        return at + 1

    def _before_value(self, text: str, at: int) -> int:
        at = _past_space(text, at)
        if at == len(text):
            return at
        if text[at] in ",}]:":
            return self._lose(at)
        if self._name in self._awaited:
            self._awaited.remove(self._name)
            self._field = self._name
            self._named = True
        if text[at] == '"':
            self._step = self._string
            return at + 1
        self._depth, self._quoted = 0, False
        self._step = self._nested if text[at] in "{[" else self._scalar
        return at

    def _after_value(self, text: str, at: int) -> int:
        at = _past_space(text, at)
        if at == len(text):
            return at
        if text[at] not in ",}":
            return self._lose(at)
        self._step = self._before_key if text[at] == "," else self._done
        return at + 1

    def _done(self, text: str, at: int) -> int:
        return len(text)

    def _lose(self, at: int) -> int:
        """The text is no JSON here. A brace before any output was a brace in a sentence; else all is told."""
        self._step = self._done if self._named else self._seek
        return at

    # -- values -------------------------------------------------------------------------------------------------

    def _string(self, text: str, at: int) -> int | None:
        plain = _PLAIN.match(text, at)
        assert plain is not None
        if plain.end() > at:
            self._say(plain.group())
            return plain.end()
        if text[at] == '"':
            self._string_ends()
            return at + 1
        read = _escape(text, at)
        if read is None:
            return None
        self._say(read[0])
        return read[1]

    def _string_ends(self) -> None:
        if self._key is None:
            self._close()
            self._step = self._after_value
        else:
            self._name, self._key = "".join(self._key), None
            self._step = self._before_colon

    def _scalar(self, text: str, at: int) -> int:
        scalar = _SCALAR.match(text, at)
        assert scalar is not None
        self._say(scalar.group())
        if scalar.end() < len(text):
            self._close()
            self._step = self._after_value
        return scalar.end()

    def _nested(self, text: str, at: int) -> int | None:
        if self._quoted:
            return self._nested_string(text, at)
        flat = _FLAT.match(text, at)
        assert flat is not None
        end = flat.end()
        if end < len(text):
            sign = text[end]
            self._quoted = sign == '"'
            self._depth += (sign in "{[") - (sign in "}]")
            end += 1
        self._say(text[at:end])
        if end and self._depth == 0 and text[end - 1] in "}]":
            self._close()
            self._step = self._after_value
        return end

    def _nested_string(self, text: str, at: int) -> int | None:
        plain = _PLAIN.match(text, at)
        assert plain is not None
        end = plain.end()
        if end < len(text) and text[end] == '"':
            self._quoted = False
            end += 1
        elif end + 1 < len(text):  # a backslash and what it stands before
            end += 2
        self._say(text[at:end])
        return end if end > at else None

    # -- telling ------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self._key is not None:
            self._key.append(text)
        elif self._field is not None and text:
            self._said.append(text)

    def _tell(self, is_last: bool = False) -> None:
        if self._field is not None and (self._said or is_last):
            self._found.append(FieldPiece(self._field, "".join(self._said), is_last))
            self._said.clear()

    def _close(self) -> None:
        self._tell(is_last=True)
        self._field = None


def _past_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()


def _escape(text: str, at: int) -> tuple[str, int] | None:
    """What the escape at `at` stands for and where it ends; `None` where more of it is to come.

    Two halves of a pair are one character; a half on its own stays one, as in Python's parser.
    """
    if at + 1 == len(text):
        return None
    kind = text[at + 1]
    if kind != "u":
        return _SIGNS.get(kind, f"\\{kind}"), at + 2
    digits = text[at + 2 : at + 6]
    if not _HEX.match(digits):
        return "\\u", at + 2
    if len(digits) < 4:
        return None
    code = int(digits, 16)
    if not 0xD800 <= code < 0xDC00:
        return chr(code), at + 6
    low = _LOW_HALF.match(text, at + 6)
    if low is not None:
        return chr(0x10000 + ((code - 0xD800) << 10) + int(low.group(1), 16) - 0xDC00), at + 12
    return None if _LOW_BEGUN.match(text, at + 6) else (chr(code), at + 6)
