"""The marks and words of the layouts: what our adapters write and what a reader of their prompts looks for.

The layout itself is described in `chat_adapter.py`. The embedded model reads prompts back with `sections` and these
constants, so that both sides change together.
"""

from __future__ import annotations

import re

COMPLETED = "[[ ## completed ## ]]"
"""Closes every answer."""
HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
"""A field's header; it counts only at the beginning of a line, spaces aside."""
_OPEN, _CLOSE = "[[ ## ", " ## ]]"
INDENT = " " * 8
"""Stands before each line of the instructions and before each note."""
NOTE = f"{INDENT}# "
"""Between a slot and the note on its value: `{label}        # exactly one of: order; complaint`."""
TEXT_OR_NONE = "the text itself, or null where there is none"
"""The note of a `str | None`."""
OPTIONS = "exactly one of: "
"""Begins the note of an enum or `Literal`; the options follow, separated by `OPTION_BREAK`."""
OPTION_BREAK = "; "
SCHEMA = "JSON that fits this schema: "
"""Begins the note of a structured output; the schema follows on the same line."""

INPUTS_TITLE = "You are given these fields:"
OUTPUTS_TITLE = "You produce these fields:"
LAYOUT_TITLE = "Each exchange is laid out as follows; a name in braces stands for the value of that field."
TASK_TITLE = "What to do:"
PARTIAL_DEMO = "Here is part of an example; the fields left out are unknown."
"""First paragraph of a user turn whose demonstration lacks fields."""
NOT_GIVEN = "(unknown in this example)"
"""Stands for an output that a demonstration or an earlier turn lacks."""
REMINDER = "Reply with these fields in this order: "
"""Begins the last paragraph of the request; nothing behind it is input."""
JSON_TITLE = "The answer is one JSON object and nothing else, with these keys:"
JSON_REMINDER = "Reply with one JSON object that has these keys in this order: "
"""What `REMINDER` is, where the answer is JSON."""


def header(name: str) -> str:
    """The header line of a field."""
    return f"{_OPEN}{name}{_CLOSE}"


def sections(text: str) -> list[tuple[str | None, str]]:
    """The text cut at its header lines, in order: `(field, content)`.

    What stands before the first header comes first, under `None`. Content is stripped; text behind a header on the
    same line belongs to its content. A header further inside a line is content. Lines end with a line feed, with or
    without a carriage return; rarer separators (U+2028, form feed) are part of the text, where DSPy turns them into
    line feeds and so breaks JSON that holds them.
    """
    first, *marked = text.replace("\r\n", "\n").split(_OPEN)
    found: list[tuple[str | None, list[str]]] = [(None, [first])]
    begins_line = not first.rpartition("\n")[2].strip()
    for piece in marked:
        name, mark, content = piece.partition(_CLOSE)
        if begins_line and mark and name.replace("_", "x").isalnum():
            found.append((name, [content]))
        else:  # further inside a line, or no header
            content = piece
            found[-1][1].append(content)
        _, line_feed, before = content.rpartition("\n")
        begins_line = line_feed != "" and not before.strip()
    return [(name, _content(name, _OPEN.join(pieces))) for name, pieces in found]


def _content(name: str | None, text: str) -> str:
    """What stands below a header; the rest of the header's own line without the spaces at its end."""
    content = text.strip()
    if name is None or "\n" not in content:
        return content
    rest, _, below = text.partition("\n")
    return f"{rest.rstrip()}\n{below}".strip()
