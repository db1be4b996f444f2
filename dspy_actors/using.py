"""`Using`: settings for a while, what `Runtime.using` gives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Token
from typing import Any, Self

from dspy_actors.modules.module import Module
from dspy_actors.modules.program import Program
from dspy_actors.runner import FRAME, Frame, current_frame


class Using(AbstractContextManager["Using"]):
    """Settings in force inside a `with` block, and handles that keep them."""

    def __init__(self, frame: Callable[[], Frame], start: Callable[..., Program]) -> None:
        self._frame = frame
        self._start = start
        self._tokens: list[Token[Frame | None]] = []

    def __enter__(self) -> Self:
        frame = self._frame()
        frame.outer = current_frame()  # a block inside of a call is still in there
        self._tokens.append(FRAME.set(frame))
        return self

    def __exit__(self, *exc: object) -> None:
        FRAME.reset(self._tokens.pop())

    def start(self, module: Module, **options: Any) -> Program:
        """As `Runtime.start`, under these settings."""
        with self:
            return self._start(module, **options)
