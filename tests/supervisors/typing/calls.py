"""What a type checker knows of a call: `mypy --strict` over this file finds nothing, and every ignore is needed."""

from __future__ import annotations

from typing import assert_type

from supervisors.actor import Actor
from supervisors.kernel import Kernel
from supervisors.ref import Ref
from supervisors.registry import Registry
from supervisors.reply import Reply


class Base(Actor):
    dispatcher = "loop"

    def add(self, n: int) -> int:
        return n

    async def later(self, text: str) -> str:
        return text

    def deferred(self) -> Reply[float]:
        return self.defer()


class Derived(Base):
    def extra(self) -> bytes:
        return b""


def blocking(kernel: Kernel) -> None:
    ref = kernel.spawn(Derived)
    assert_type(ref, Ref[Derived])
    assert_type(ref.call(Base.add, 1), int)
    assert_type(ref.call(Base.add, n=1), int)
    assert_type(ref.call(Derived.extra), bytes)
    assert_type(ref.call(Base.later, "x"), str)
    assert_type(ref.call(Base.deferred), float)
    assert_type(ref.within(1.0).call(Base.deferred), float)
    assert_type(ref.send_request(Base.later, "x"), Reply[str])
    assert_type(Registry().via("x").call(Base.later, "x"), str)
    assert_type(Derived.start(), Ref[Derived])


async def awaiting(ref: Ref[Derived]) -> None:
    assert_type(await ref.acall(Base.add, 1), int)
    assert_type(await ref.acall(Base.later, "x"), str)
    assert_type(await ref.within(1.0).acall(Base.deferred), float)
    assert_type(await ref.send_request(Derived.extra), bytes)


def refused(ref: Ref[Base]) -> None:
    ref.call(Base.add, "no")  # type: ignore[call-overload]  # an argument of the wrong type
    ref.call(Derived.extra)  # type: ignore[call-overload]  # not a method of this class
    ref.cast(Base.add)  # type: ignore[call-arg]  # an argument too few
