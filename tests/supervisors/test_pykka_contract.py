"""What this package relies on in pykka, and what pykka's own API does with our actors. Run against each release."""

from __future__ import annotations

import inspect
from typing import Any

import pykka
import pytest
from pykka import messages

from supervisors.errors import ActorDied, BlockingCallOnLoop
from supervisors.exits import Normal
from supervisors.kernel import Kernel
from supervisors.reply import Reply
from tests.supervisors.actors import KINDS, Counter, spawn

kinds = pytest.mark.parametrize("cls", KINDS)


# what we rely on


def test_pykka_has_the_three_hooks_for_new_actor_types() -> None:
    hooks = {"_create_actor_inbox", "_create_future", "_start_actor_loop"}
    assert hooks <= pykka.Actor.__abstractmethods__


def test_pykka_puts_envelopes_with_message_and_reply() -> None:
    class Inbox:
        def put(self, envelope: Any) -> None:
            seen.append(envelope)

    class Recorder(pykka.ThreadingActor):
        @staticmethod
        def _create_actor_inbox() -> Any:
            return Inbox()

    seen: list[Any] = []
    ref = Recorder().actor_ref
    ref.tell("told")
    future = ref.ask("asked", block=False)
    ref.stop(block=False)
    assert [(each.message, each.reply_to) for each in seen[:2]] == [("told", None), ("asked", future)]
    assert type(seen[2].message) is messages._ActorStop


def test_pykka_stops_with_a_future_of_the_same_class() -> None:
    source = inspect.getsource(pykka.ActorRef.stop)
    assert "__class__()" in source
    assert "set_get_hook" in source


def test_proxy_messages_have_the_fields_we_read() -> None:
    assert messages.ProxyCall._fields == ("attr_path", "args", "kwargs")
    assert messages.ProxyGetAttr._fields == ("attr_path",)
    assert messages.ProxySetAttr._fields == ("attr_path", "value")


# what pykka's API does with our actors


@kinds
def test_our_actor_is_a_pykka_actor(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert isinstance(ref, pykka.ActorRef)
    assert issubclass(ref.actor_class, pykka.Actor)


@kinds
def test_ask_goes_to_on_info(kernel: Kernel, cls: type[Counter]) -> None:
    assert spawn(kernel, cls).ask("raw") == ("info", "raw")


@kinds
def test_ask_without_block_gives_a_future(kernel: Kernel, cls: type[Counter]) -> None:
    future = spawn(kernel, cls).ask("raw", block=False)
    assert isinstance(future, pykka.Future)
    assert future.get(timeout=5) == ("info", "raw")


@kinds
def test_tell_goes_to_on_info(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    ref.tell("raw")
    assert ref.call(Counter.notes) == ["raw"]


@kinds
def test_tell_to_a_dead_actor_raises_as_in_pykka(kernel: Kernel, cls: type[Counter]) -> None:
    ref = spawn(kernel, cls)
    assert ref.stop()
    assert not ref.stop()
    for send in (lambda: ref.tell("raw"), lambda: ref.ask("raw")):
        with pytest.raises(pykka.ActorDeadError):
            send()


@kinds
def test_proxies_work(kernel: Kernel, cls: type[Counter]) -> None:
    proxy = spawn(kernel, cls, 1).proxy()
    assert proxy.add(2).get(timeout=5) == 3
    assert proxy.value.get(timeout=5) == 3
    proxy.value = 10
    assert proxy.value.get(timeout=5) == 10
    proxy.stop()
    proxy.actor_ref.down().get(5)  # type: ignore[attr-defined]


@kinds
def test_a_crash_in_a_raw_ask_ends_the_actor_and_tells_the_caller(kernel: Kernel, cls: type[Counter]) -> None:
    class Fragile(cls):  # type: ignore[misc, valid-type]
        def on_receive(self, message: Any) -> Any:
            raise KeyError(message)

    ref = spawn(kernel, Fragile)
    with pytest.raises(ActorDied) as caught:
        ref.ask("raw")
    assert isinstance(caught.value.__cause__, KeyError)
    assert not ref.is_alive()


def test_a_plain_pykka_ref_to_our_actor_works(kernel: Kernel) -> None:
    ref = spawn(kernel)
    plain: pykka.ActorRef[Any] = pykka.ActorRef(ref.mailbox.actor)
    assert plain.ask("raw") == ("info", "raw")
    assert plain.actor_urn == ref.actor_urn
    assert plain.stop()
    assert not plain.is_alive()


def test_our_actors_stay_out_of_pykkas_registry(kernel: Kernel) -> None:
    spawn(kernel)
    assert pykka.ActorRegistry.get_all() == []


def test_a_stop_behind_a_stop_succeeds(kernel: Kernel) -> None:
    ref = spawn(kernel)
    futures = [ref.stop(block=False) for _ in range(3)]
    assert all(future.get(timeout=5) for future in futures)
    assert ref.down().get(0) == Normal()


def test_pykkas_hooks_run_where_ours_are_not_overridden(kernel: Kernel) -> None:
    from supervisors.actor import Actor

    log: list[str] = []

    class Old(Actor):
        def on_start(self) -> None:
            log.append("start")

        def on_stop(self) -> None:
            log.append("stop")

        def on_failure(self, *exc_info: Any) -> None:
            log.append(f"failure {exc_info[0].__name__}")

        def on_receive(self, message: Any) -> Any:
            raise message

    first, second = kernel.spawn(Old), kernel.spawn(Old)
    first.stop()  # type: ignore[union-attr]
    with pytest.raises(ActorDied):
        second.ask(ValueError())  # type: ignore[union-attr]
    assert log == ["start", "start", "stop", "failure ValueError"]


def test_a_raw_future_belongs_to_the_actor_it_waits_for(kernel: Kernel) -> None:
    ref = spawn(kernel)
    future = ref.ask("raw", block=False)
    assert isinstance(future, Reply)
    assert future.name == ref.name


def test_a_raw_ask_on_a_loop_raises_instead_of_blocking_it(kernel: Kernel) -> None:
    import asyncio

    ref = spawn(kernel)

    async def main() -> None:
        ref.ask("raw")

    with pytest.raises(BlockingCallOnLoop):
        asyncio.run(main())
