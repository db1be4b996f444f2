"""The errors of this package, each with the values that caused it as fields.

    SupervisorsError
    ├── SpecError             a value that cannot work was given (also ValueError)
    ├── StartFailed           the actor did not come up
    ├── ActorDied             the actor ended before it answered (also pykka.ActorDeadError)
    ├── CallTimeout           no answer in time (also pykka.Timeout and TimeoutError)
    ├── MailboxFull           a bounded mailbox refused the message
    ├── Fenced                a fenced incarnation tried to send or to register
    ├── CallCycle             the call would wait for itself
    │   └── StopFromBelow     somebody asked for the end of an actor that he runs below, and would wait for it
    ├── BlockingCallOnLoop    a blocking wait on a thread that runs an asyncio loop
    ├── UnknownMessage        the function is not a method of the actor's class
    ├── AlreadyRegistered     a unique key is taken
    ├── NotRegistered         nobody holds the key
    ├── AlreadyStarted        the name has a live holder
    ├── AlreadyPresent        the supervisor has a child of that id, which is not running
    ├── NotFound              the supervisor has no such child
    ├── Running               the child is running, so it can be neither restarted nor deleted
    ├── Restarting            the child waits for its restart
    ├── MaxChildren           the supervisor is full
    ├── NoSystem              there is no system to start the actor in
    ├── SystemStopped         the system was shut down
    └── UsedAfterFork         the object belongs to the parent process

Every error can be copied and pickled when its fields can.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pykka

from supervisors.exits import EXITS, Crash, Exit, describe, said


class SupervisorsError(Exception):
    """Base of every error this package raises on purpose. `args` are the fields, in order."""

    def text(self) -> str:
        """The sentence that `str()` gives."""
        return ", ".join(map(str, self.args))

    def __str__(self) -> str:
        try:
            return self.text()
        except Exception as error:  # a stranger's `repr` of one of the fields
            return f"{type(self).__name__}, whose fields cannot be shown: {type(error).__name__}"


class SpecError(SupervisorsError, ValueError):
    """`field` was given `value`; `allowed` says what would do."""

    def __init__(self, field: str, value: object, allowed: object) -> None:
        super().__init__(field, value, allowed)
        self.field, self.value, self.allowed = field, value, allowed

    def text(self) -> str:
        return f"{self.field} cannot be {self.value!r}; allowed: {self.allowed}"


class StartFailed(SupervisorsError):
    """The actor `id` did not come up; `cause` is what its `init` raised (or `CallTimeout` when it took too long)."""

    def __init__(self, id: object, cause: BaseException) -> None:
        super().__init__(id, cause)
        self.id, self.cause = id, cause
        self.__cause__ = cause

    def text(self) -> str:
        return f"{said(self.id)} did not start: {type(self.cause).__name__}: {said(self.cause)}"


class ActorDied(SupervisorsError, pykka.ActorDeadError):
    """The actor `name` ended with `exit` before it answered.

    `maybe_handled` is False when the message certainly was not handled and may be sent again. `incarnation` is
    the one that died, 0 where there was none. `__cause__` is the exception of a crash.
    """

    def __init__(self, name: str, exit: Exit, maybe_handled: bool, incarnation: int = 0) -> None:
        super().__init__(name, exit, maybe_handled, incarnation)
        self.name, self.exit, self.maybe_handled, self.incarnation = name, exit, maybe_handled, incarnation
        if isinstance(exit, Crash):
            self.__cause__ = exit.error

    def text(self) -> str:
        handled = "the message may have been handled" if self.maybe_handled else "the message was not handled"
        return f"{self.name} gave no answer: {describe(self.exit)}; {handled}"


class CallTimeout(SupervisorsError, pykka.Timeout, TimeoutError):
    """`name` did not answer within `seconds`; the message may still be handled. `longer` is what gives it more time."""

    def __init__(self, name: str, seconds: float, longer: str = "ref.within(seconds)") -> None:
        super().__init__(name, seconds, longer)
        self.name, self.seconds, self.longer = name, seconds, longer

    def text(self) -> str:
        return f"{self.name} did not answer within {self.seconds:g} s; give it longer with {self.longer}"


class MailboxFull(SupervisorsError):
    """The mailbox of `name` holds `bound` messages already."""

    def __init__(self, name: str, bound: int) -> None:
        super().__init__(name, bound)
        self.name, self.bound = name, bound

    def text(self) -> str:
        return f"the mailbox of {self.name} holds its {self.bound} messages; send less, or raise the class's `mailbox`"


class Fenced(SupervisorsError):
    """`name` was declared dead; what its code still sends or registers is refused."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"{self.name} was fenced: it is officially dead and may neither send nor register; let this code end"


class CallCycle(SupervisorsError):
    """The call would wait for itself along `path`, names of actors; one name is an actor that calls itself."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(path)
        self.path = path

    def text(self) -> str:
        ring = " -> ".join((*self.path, self.path[0]))
        return f"this call can never be answered: {ring}; use cast, or defer() the reply"


class StopFromBelow(CallCycle):
    """`path[0]` asked for the end of `path[-1]`, which it runs below, and would wait for its own end.

    Beyond OTP, where this waits until somebody's time is up and the asker is killed.
    """

    def text(self) -> str:
        below, above = self.path[0], self.path[-1]
        return f"{below} belongs to {above} and would wait for its own end; use cast, self.stop(), or ask from outside"


class BlockingCallOnLoop(SupervisorsError):
    """`what` would have blocked a thread that runs an asyncio loop."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def text(self) -> str:
        return f"waiting for {self.what} would block the running asyncio loop; use `await ref.acall(...)`"


class UnknownMessage(SupervisorsError):
    """`method` is not a method of the class of `name`."""

    def __init__(self, name: str, method: str) -> None:
        super().__init__(name, method)
        self.name, self.method = name, method

    def text(self) -> str:
        return (
            f"{self.method} is not a method of {self.name}; send a function of its class, as in ref.call(Class.method)"
        )


class AlreadyRegistered(SupervisorsError):
    """`key` belongs to `ref`."""

    def __init__(self, key: object, ref: Any) -> None:
        super().__init__(key, ref)
        self.key, self.ref = key, ref

    def text(self) -> str:
        return f"{self.key!r} is registered for {self.ref}; unregister it first or take another key"


class NotRegistered(SupervisorsError):
    """Nobody holds `key`."""

    def __init__(self, key: object) -> None:
        super().__init__(key)
        self.key = key

    def text(self) -> str:
        return f"nobody is registered as {self.key!r}"


class AlreadyStarted(SupervisorsError):
    """What was to be started is running: `ref`."""

    def __init__(self, ref: Any) -> None:
        super().__init__(ref)
        self.ref = ref

    def text(self) -> str:
        return f"{self.ref} is running already; use the `ref` of this error"


class AlreadyPresent(SupervisorsError):
    """The child `id` is known and not running."""

    def __init__(self, id: object) -> None:
        super().__init__(id)
        self.id = id

    def text(self) -> str:
        return f"child {self.id!r} is there but not running; restart_child or delete_child it"


class NotFound(SupervisorsError):
    """There is no child `id`."""

    def __init__(self, id: object) -> None:
        super().__init__(id)
        self.id = id

    def text(self) -> str:
        return f"there is no child {self.id!r}"


class Running(SupervisorsError):
    """The child `id` is running."""

    def __init__(self, id: object) -> None:
        super().__init__(id)
        self.id = id

    def text(self) -> str:
        return f"child {self.id!r} is running; terminate_child it first"


class Restarting(SupervisorsError):
    """The child `id` waits for its restart."""

    def __init__(self, id: object) -> None:
        super().__init__(id)
        self.id = id

    def text(self) -> str:
        return f"child {self.id!r} is being restarted; terminate_child it first"


class MaxChildren(SupervisorsError):
    """The supervisor has `limit` children."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def text(self) -> str:
        return f"the supervisor has its {self.limit} children; end one, or raise max_children"


class NoSystem(SupervisorsError):
    """An actor was started outside of any system."""

    def __init__(self) -> None:
        super().__init__()

    def text(self) -> str:
        return "there is no system here: use `with System() as system:` or `system.spawn(...)`"


class SystemStopped(SupervisorsError):
    """The system `name` was shut down."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def text(self) -> str:
        return f"the system {self.name!r} was shut down; start a new one"


class UsedAfterFork(SupervisorsError):
    """`what` was made before os.fork(); its threads do not exist in this process."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def text(self) -> str:
        return f"{self.what} belongs to the parent process: threads do not survive fork(); start a system in the child"


_HEAP_TYPE = 1 << 9  # type flag: a class made by Python code


def check_exit(exit: object) -> None:
    """Raise SpecError if `exit` is no exit."""
    if not isinstance(exit, EXITS):
        raise SpecError("exit", exit, "Normal(), Shutdown(detail), Crash(error), Killed() or NoProc()")


def check_seconds(field: str, seconds: object) -> None:
    """Raise SpecError if `seconds` is no number, or is nan."""
    if not isinstance(seconds, (int, float)) or seconds != seconds:
        raise SpecError(field, seconds, "a number of seconds")


def fresh(error: BaseException) -> BaseException:
    """A copy of a shared exception to raise, with its own traceback; itself where a copy would lose something."""
    kind = type(error)
    if _has_c_fields(kind):  # type: ignore[arg-type]  # classes are hashable
        return error
    try:
        twin = kind.__new__(kind, *error.args)
    except TypeError:
        return error
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    twin.__traceback__ = error.__traceback__
    twin.__context__ = error.__context__
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    return twin


@lru_cache(maxsize=256)
def _has_c_fields(kind: type) -> bool:
    """As OSError and SystemExit have: a copy made from `args` and `__dict__` would lack them."""
    built_in = [base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE]
    return any(base.__basicsize__ > BaseException.__basicsize__ for base in built_in)
