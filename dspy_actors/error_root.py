"""`DspyActorsError`: what every error of this package is, and how it crosses a process border; the tree is `errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypeVar


class DspyActorsError(Exception):
    """Root of the tree. `kind` names the error in files and logs and never changes between releases."""

    kind: ClassVar[str] = "error"
    fields: ClassVar[tuple[str, ...]] = ()
    infrastructure: ClassVar[bool] = False
    """True where the fault lies outside the program: such an example is unscored, never scored zero."""
    call_id: str | None = None
    """The call of a program that it ended, the inner one of two: as in the call's events, its `Outcome` and the
    `X-Request-Id` of its requests. `None` for an error that ended none."""
    _remembered: ClassVar[bool] = False

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(writable(message))
        unknown = set(fields) - set(self.fields)
        if unknown:
            msg = (
                f"{type(self).__name__} has no field {sorted(unknown)[0]!r}; it has {', '.join(self.fields) or 'none'}"
            )
            raise TypeError(msg)
        for name in self.fields:
            setattr(self, name, fields.get(name))

    @property
    def message(self) -> str:
        """The text without the fields. Any log can hold it: half a surrogate stands in it as `\\ud83d`."""
        return str(self.args[0])

    @message.setter
    def message(self, text: str) -> None:
        self.args = (writable(text),)

    def __reduce__(self) -> tuple[object, ...]:
        return (_filled, (type(self), self.to_wire()))

    def fresh(self) -> DspyActorsError:
        """A copy with the notes and without traceback: each waiter of a shared failure raises its own."""
        made = _filled(type(self), self.to_wire())
        for note in getattr(self, "__notes__", ()):
            made.add_note(note)
        return remembered(made) if is_remembered(self) else made

    def to_wire(self) -> dict[str, object]:
        """The error as plain data: `kind`, `type`, `message`, its fields and `call_id`, as far as they are known."""
        wire: dict[str, object] = {"kind": self.kind, "type": type(self).__name__, "message": self.message}
        for name in self.fields:
            value = getattr(self, name)
            if value is not None:
                wire[name] = value if isinstance(value, (str, int, float, bool)) else str(value)
        if self.call_id is not None:
            wire["call_id"] = self.call_id
        return wire


_E = TypeVar("_E", bound=DspyActorsError)


def remembered(error: _E) -> _E:
    """`error`, marked as one that was met before and is given again: nothing was asked anew. Its copies are too."""
    error.__dict__["_remembered"] = True
    return error


def is_remembered(error: BaseException) -> bool:
    """Whether `error` was met before and is given again."""
    return isinstance(error, DspyActorsError) and error._remembered


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate, of an emoji that a server cut in two, escaped as JSON does."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def from_wire(wire: Mapping[str, object]) -> DspyActorsError:
    """The error that `to_wire` wrote; a type this release does not know comes back as `DspyActorsError`."""
    found = error_class(str(wire.get("type", "")), DspyActorsError) or DspyActorsError
    return _filled(found, wire)


def _filled(kind: type[DspyActorsError], wire: Mapping[str, object]) -> DspyActorsError:
    error = kind.__new__(kind)
    Exception.__init__(error, writable(str(wire.get("message", ""))))
    for name in kind.fields:
        setattr(error, name, wire.get(name))
    call_id = wire.get("call_id")
    if call_id is not None:
        error.call_id = str(call_id)
    return error


def error_class(name: str, root: type[DspyActorsError]) -> type[DspyActorsError] | None:
    """The class called `name`, which is `root` or one below it; `None` where there is none."""
    if root.__name__ == name:
        return root
    for child in root.__subclasses__():
        if (found := error_class(name, child)) is not None:
            return found
    return None
