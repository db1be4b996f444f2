"""`answer`: the handlers of a supervisor whose errors are answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from supervisors.actor import Actor
from supervisors.errors import SupervisorsError

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Actor)


def answer(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A handler of a supervisor whose typed errors are answers: the caller gets them, the supervisor lives on.

    So are arguments that do not fit: a caller's slip must not end everybody's supervisor.
    """

    @wraps(method)
    def handler(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except SupervisorsError as error:
            refusal: Exception = error
        except TypeError as error:
            if _fits(method, self, *args, **kwargs):
                raise
            refusal = error
        reply = self.defer()
        reply.fail(refusal)
        return reply  # type: ignore[return-value]  # a handler that gives its Reply answers with it

    return cast("Callable[Concatenate[S, P], R]", handler)


def _fits(method: Callable[..., object], *args: object, **kwargs: object) -> bool:
    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError:
        return False
    return True
