"""`Observer`: who follows the requests of one attempt, from the provider down to the socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dspy_actors.errors import LMError


class Observer:
    """Follows the requests of one attempt; called on the loop, in the task that sends them.

    Whoever calls it must not keep it: it knows the whole call. This one follows nothing; a class of its own says what
    is to be done.
    """

    __slots__ = ()

    def sent(self) -> None:
        """The whole request is on its way; called again where it is sent once more. Must not raise."""

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of an answer has come, of a refusal too. Must not raise."""

    def again(self) -> None:
        """What was sent came to nothing and is to be sent once more; raises an `LMError` that forbids that."""

    def ready(self) -> None:
        """The server was still loading its model and is ready now: the attempt's time counts from here."""


NOBODY = Observer()
"""Follows nothing."""


class Relay(Observer):
    """Tells another one all that it is told, and asks it; a class of its own says what is to be done besides."""

    __slots__ = ("_observer",)

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def sent(self) -> None:
        """See `Observer.sent`."""
        self._observer.sent()

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Observer.heard`."""
        self._observer.heard(status, headers)

    def again(self) -> None:
        """See `Observer.again`."""
        self._observer.again()

    def ready(self) -> None:
        """See `Observer.ready`."""
        self._observer.ready()


class WhenSent(Observer):
    """Calls `sent` each time that the whole request is on its way."""

    __slots__ = ("_sent",)

    def __init__(self, sent: Callable[[], object]) -> None:
        self._sent = sent

    def sent(self) -> None:
        """See `Observer.sent`."""
        self._sent()


def ask_again(observer: Observer, failed: LMError) -> None:
    """May the request be sent once more? Asked by whoever would, transport or provider; raises what forbids it.

    That is how the request `failed` that was sent before, with what forbids another as its cause and its note: what
    the provider did says more than that it is not asked again.
    """
    try:
        observer.again()
    except LMError as refusal:
        failed.add_note(f"not sent again: {refusal.message}")
        raise failed from refusal
