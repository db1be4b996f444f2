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
INDENT = " " * 8
"""Stands before each line of the instructions and before each note."""
NOTE = f"{INDENT}# "
"""Between a slot and the note on its value: `{label}        # exactly one of: order; complaint`."""
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
    return f"[[ ## {name} ## ]]"


def sections(text: str) -> list[tuple[str | None, str]]:
    """The text cut at its header lines, in order: `(field, content)`.

    What stands before the first header comes first, under `None`. Content is stripped; text behind a header on the
    same line belongs to its content. A header further inside a line is content. Lines end with a line feed, with or
    without a carriage return; rarer separators (U+2028, form feed) are part of the text, where DSPy turns them into
    line feeds and so breaks JSON that holds them.
    """
    text = text.replace("\r\n", "\n")
    found: list[tuple[str | None, str]] = []
    name, begin = None, 0
    for match in HEADER.finditer(text):
        start = match.start()
        if text[text.rfind("\n", 0, start) + 1 : start].strip():  # further inside its line
            continue
        found.append((name, _content(text, begin, start)))
        name, begin = match.group(1), match.end()
    found.append((name, _content(text, begin, len(text))))
    return found


def _content(text: str, begin: int, end: int) -> str:
    """What stands between two headers; the rest of the first one's line without the spaces at its end."""
    content = text[begin:end].strip()
    if begin == 0 or "\n" not in content:
        return content
    rest, _, below = text[begin:end].partition("\n")
    return f"{rest.rstrip()}\n{below}".strip()
