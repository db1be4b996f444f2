"""The errors of ports.

SupervisorsError
├── PortExited       the process ended although nobody asked it to: the exit of its port
├── PortTimeout      the process was killed, because a call took too long: the exit of its port
├── PortProtocol     the process sent what is no frame, or too large a one, and was killed
├── CallFailed       the function raised; the process and its port are well
└── FrameTooLarge    a call or an answer is larger than the port's frames; the port is well
"""

from __future__ import annotations

import signal

from supervisors.errors import SupervisorsError


class PortExited(SupervisorsError):
    """The process of the port `name` ended with `code` (below 0: killed by that signal).

    `last_words` is the end of what it wrote to its stderr.
    """

    def __init__(self, name: str, code: int, last_words: str) -> None:
        super().__init__(name, code, last_words)
        self.name, self.code, self.last_words = name, code, last_words

    def text(self) -> str:
        return f"the process of {self.name} ended {how(self.code)}{_words(self.last_words)}"


class PortTimeout(SupervisorsError):
    """The process of the port `name` was killed, because `function` had taken longer than `seconds`."""

    def __init__(self, name: str, function: str, seconds: float, last_words: str) -> None:
        super().__init__(name, function, seconds, last_words)
        self.name, self.function, self.seconds, self.last_words = name, function, seconds, last_words

    def text(self) -> str:
        said = f"{self.function} took longer than {self.seconds:g} s, so the process of {self.name} was killed"
        return f"{said}{_words(self.last_words)}"


class PortProtocol(SupervisorsError):
    """The process of the port `name` sent what is no frame of ours, and was killed; `problem` says what."""

    def __init__(self, name: str, problem: str, last_words: str) -> None:
        super().__init__(name, problem, last_words)
        self.name, self.problem, self.last_words = name, problem, last_words

    def text(self) -> str:
        return f"the process of {self.name} was killed: {self.problem}{_words(self.last_words)}"


class CallFailed(SupervisorsError):
    """`function` raised in its process. `kind` is the class of the exception, `message` what it said.

    `traceback` is the whole of it as text, as the process printed it.
    """

    def __init__(self, function: str, kind: str, message: str, traceback: str) -> None:
        super().__init__(function, kind, message, traceback)
        self.function, self.kind, self.message, self.traceback = function, kind, message, traceback

    def text(self) -> str:
        return f"{self.function} raised {self.kind}: {self.message}"


class FrameTooLarge(SupervisorsError):
    """What `function` was given, or what it returned, takes `size` bytes; the port carries `bound`."""

    def __init__(self, function: str, size: int, bound: int) -> None:
        super().__init__(function, size, bound)
        self.function, self.size, self.bound = function, size, bound

    def text(self) -> str:
        return f"{self.function} moves {self.size} bytes at once and the port carries {self.bound}; set max_frame"


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _words(last_words: str) -> str:
    return f"; its last words:\n{last_words}" if last_words else ""
