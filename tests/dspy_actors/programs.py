"""What the tests of running programs share: runtimes over scripted models, a gate for answers, small programs."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from dspy_actors.example import Example, Prediction
from dspy_actors.messages import LMRequest
from dspy_actors.modules.module import Module
from dspy_actors.modules.predict import Predict
from dspy_actors.runtime import Runtime
from dspy_actors.testing.providers import Script, ScriptedProvider
from supervisors.reply import Reply
from supervisors.testing import wait_until

PATIENCE = 10.0
"""Seconds a test waits for something that must happen before it fails."""

SOON = 0.15
"""Seconds of a deadline that is meant to pass."""


def says(**fields: object) -> str:
    """A completion in the chat layout."""
    blocks = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*blocks, "[[ ## completed ## ]]\n"])


def asked(request: LMRequest, field: str = "question") -> str:
    """The value of an input in the last turn of a request that has it: a correction follows it without."""
    mark = f"[[ ## {field} ## ]]\n"
    turn = next(message.text for message in reversed(request.messages) if mark in message.text)
    return turn.split(mark)[1].split("\n\n")[0]


def echo(request: LMRequest) -> str:
    """A model that answers every question with itself."""
    return says(answer=asked(request))


def runtime(script: Script = echo, **options: Any) -> Runtime:
    """A runtime, not started, whose models answer from `script`."""
    provider = ScriptedProvider(script)
    return Runtime(lm=options.pop("lm", "scripted/m"), open_provider=lambda config: provider, **options)


class Gate:
    """A model that holds every answer back until the test lets it go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = threading.Semaphore(0)
        self._waiting: deque[Reply[None]] = deque()
        self._open = False
        self.cancelled = threading.Semaphore(0)

    async def __call__(self, request: LMRequest) -> str:
        turn: Reply[None] = Reply()
        with self._lock:
            self._waiting.append(turn)
            if self._open:
                turn.set(None)
        self._arrived.release()
        try:
            await turn
        finally:
            if turn.cancelled():
                self.cancelled.release()
        return echo(request)

    def wait_for(self, requests: int = 1) -> None:
        """Return once so many further requests have arrived."""
        for _ in range(requests):
            assert self._arrived.acquire(timeout=PATIENCE), "the request did not reach the model"

    def wait_for_cancel(self, requests: int = 1) -> None:
        """Return once so many further requests were given up by their worker."""
        for _ in range(requests):
            assert self.cancelled.acquire(timeout=PATIENCE), "the request was not given up"

    def open(self) -> None:
        """Answer all that wait and all that come."""
        with self._lock:
            self._open = True
            waiting = list(self._waiting)
        for turn in waiting:
            turn.set(None)


class Ask(Module):
    """A user's program with an ordinary `forward`."""

    def __init__(self) -> None:
        self.ask = Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


class AskLater(Module):
    """A user's program with an `aforward`."""

    def __init__(self) -> None:
        self.ask = Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


class Blocks(Module):
    """Holds its thread until the test lets go; with `ask` it asks a model then."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.after: Reply[Any] = Reply()
        self.ask = qa()

    def __deepcopy__(self, memo: object) -> Blocks:
        return self

    def forward(self, question: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        try:
            self.after.set(self.ask(question=question))
        except Exception as error:
            self.after.fail(error)
        return Prediction(answer="late")


def let_go(rt: Runtime, blocks: Blocks) -> None:
    """Let the abandoned threads come back, and wait until they have."""
    blocks.go_on.set()
    wait_until(lambda: rt.system.kernel.zombies == 0)


def qa() -> Predict:
    """The smallest program."""
    return Predict("question -> answer")


def examples(count: int) -> list[Example]:
    """Questions whose right answer is the question."""
    return [Example(question=f"q{n}", answer=f"q{n}").with_inputs("question") for n in range(count)]


def right(example: Example, prediction: Any, trace: object = None) -> bool:
    """Whether the answer is the expected one."""
    return bool(example.answer == prediction.answer)


def begin(fn: Any, *args: Any) -> Reply[Any]:
    """Run `fn` in a thread of its own; the reply settles with what it returned or raised."""
    reply: Reply[Any] = Reply()

    def run() -> None:
        try:
            reply.set(fn(*args))
        except BaseException as error:
            reply.fail(error)

    threading.Thread(target=run, name="begun by a test").start()
    return reply
