"""What a healthy answer says.

`{"mode": "echo"}` the last user turn · `{"mode": "fixed", "text": "…"}` · `{"mode": "layout", "text": "…", "fields":
{…}}` each output the prompt asks for, by its type · `{"mode": "map", "map": {"part of the input": "completion" or
{"field": value}}, "default": …}` the first key that the last user turn holds. `{n}` in a text is the number of the
request since the reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.server.layout import Wanted, read_layout

_KEYS = {"echo": set(), "fixed": {"text"}, "layout": {"text", "fields"}, "map": {"map", "default"}}


def text_of(content: Any) -> str:
    """The text of a message's content, whichever way it is written."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


class Answers:
    """The responder. A prompt's layout is read once for each pair of system turn and reminder."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        config = dict(config or {"mode": "layout"})
        self.mode = config.pop("mode", "layout")
        allowed = _KEYS.get(self.mode)
        if allowed is None or not allowed.issuperset(config):
            msg = f"answers have the modes and keys {_KEYS}, got {self.mode!r} with {sorted(config)}"
            raise ValueError(msg)
        self.config = config
        self._layouts: dict[tuple[str, str], Wanted | None] = {}

    def complete(self, messages: list[dict[str, Any]], count: int) -> str:
        """The completion for these messages; `count` is the number of the request."""
        user = next((text_of(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")
        if self.mode == "echo":
            return user
        if self.mode == "fixed":
            return self._counted(self.config["text"], count)
        if self.mode == "map":
            found = next((say for part, say in self.config["map"].items() if part in user), self.config.get("default"))
            if isinstance(found, str):
                return self._counted(found, count)
            return self._layout(messages, user, found or {}, None)
        text = self.config.get("text")
        said = None if text is None else self._counted(text, count)
        return self._layout(messages, user, self.config.get("fields", {}), said)

    @staticmethod
    def _counted(text: str, count: int) -> str:
        return text.replace("{n}", str(count))

    def _layout(self, messages: list[dict[str, Any]], user: str, given: Mapping[str, Any], text: str | None) -> str:
        system = next((text_of(m["content"]) for m in messages if m["role"] in ("system", "developer")), "")
        key = (system, user.rstrip().rsplit("\n\n", 1)[-1])
        if key not in self._layouts:
            if len(self._layouts) >= 1000:
                self._layouts.clear()
            self._layouts[key] = read_layout(system, user)
        wanted = self._layouts[key]
        if wanted is None:
            return text if text is not None else "text"
        return wanted.fill(given, text)
