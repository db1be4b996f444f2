"""`Port`: an actor in front of a process of its own, for code that must be killable for certain."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from supervisors.actor import Actor
from supervisors.clock import Timer
from supervisors.errors import ActorDied, CallTimeout, MailboxFull, SpecError, SupervisorsError
from supervisors.exits import Crash, Exit
from supervisors.ports.child import ANSWER, RAISED, TOO_LARGE
from supervisors.ports.errors import CallFailed, FrameTooLarge, PortExited, PortProtocol, PortTimeout
from supervisors.ports.process import Ended, Options, Process
from supervisors.reply import Reply

TIMEOUT = 30.0
"""Seconds a call may take unless it or its port says otherwise."""
GRACE = 1.0
"""Seconds that an idle process has to end by itself when its port stops."""


class Job:
    """One call, from its arrival to its answer."""

    __slots__ = ("frame", "function", "number", "reply", "seconds", "timer")

    def __init__(self, number: int, function: str, frame: bytes, seconds: float, reply: Reply[Any]) -> None:
        self.number, self.function, self.frame, self.seconds, self.reply = number, function, frame, seconds, reply
        self.timer: Timer | None = None

    def over(self) -> None:
        """Its deadline does not matter any more."""
        if self.timer is not None:
            self.timer.cancel()


class Port(Actor):
    """Runs functions in a process of its own, one after the other, each killed for certain at its deadline.

        name = system.via("sandbox")
        system.start_child(ChildSpec("sandbox", Port, kwargs={"modules": ("sandbox",)}, name=name))
        name.call(Port.run, "sandbox:evaluate", ("1 + 1",))

    The function is named "module:function" and imported in the process, which has our import path and nothing else
    of ours. Arguments and answers are what msgpack carries (None, bool, int of 64 bits, float, str, bytes, list, dict;
    a tuple arrives as a list). What the function raises is an answer, CallFailed.

    The process is one life, like its actor: it ends with it, however that ends, and when the process ends or is
    killed the port crashes with PortExited or PortTimeout, for its supervisor to start a new one. Calls that waited
    then were certainly not handled, so a `Via` sends them to the next. No handler of it blocks, but for start and end,
    for a thread of its own moves the bytes; so it lives on the pool and sees deadlines and exits at any time.
    """

    def init(
        self,
        *,
        modules: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        timeout: float = TIMEOUT,
        max_queue: int | None = None,
        max_frame: int = 1 << 24,
        max_words: int = 1 << 12,
    ) -> None:
        """Start the process and wait until it has imported `modules` and is ready.

        `modules` are imported ahead, so that no call pays for it and one that cannot be imported fails the start. It is
        no list of what is allowed: a call may name any function that the process can import, "os:getpid" too.
        `env` is added to our environment. A call takes at most `timeout` seconds unless it says otherwise; at most
        `max_queue` calls wait (None: any number). `max_frame` is the largest call and the largest answer, and
        `max_words` what is kept of the end of its stderr, both in bytes. Raises SpecError, OSError, and PortExited
        with the last words.
        """
        _check(timeout > 0, "timeout", timeout, "seconds > 0")
        _check(max_queue is None or max_queue >= 0, "max_queue", max_queue, "an int >= 0 or None")
        _check(0 < max_frame < 1 << 32, "max_frame", max_frame, "bytes, from 1 to 4 GiB")
        _check(max_words >= 0, "max_words", max_words, "bytes >= 0")
        _check(not isinstance(modules, str), "modules", modules, "a sequence of names")
        self._timeout = timeout
        self._max_queue = max_queue
        self._max_frame = max_frame
        self._numbers = count(1)
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._late: Job | None = None
        self._ready: Reply[bool] = Reply()
        self._process = Process(self.name, Options(modules, env, cwd, max_frame, max_words), self._on_frame)
        self._tie()
        if not self._wait_until_ready():
            ended = self._process.ended.take()
            raise PortExited(self.name, ended.code, ended.last_words)

    def _tie(self) -> None:
        """The process ends with the actor, however that ends; and its end is told to the actor."""
        cell, process, ready = self._cell, self._process, self._ready
        if not cell.watch(process, lambda _: process.kill()):
            process.kill()

        def ended(reply: Reply[Ended]) -> None:
            ready.set(False)
            cell.post(("process_ended", (reply.take(),), None, None))

        process.ended.add_done_callback(ended)

    def _wait_until_ready(self) -> bool:
        self._ready.wait(None, self.clock)
        return self._ready.take()

    def _on_frame(self, frame: bytes) -> None:
        """In the thread of the process."""
        if not self._ready.set(True):
            self._cell.post(("answered", (frame,), None, None))

    # messages

    def run(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Reply[Any]:
        """Call "module:function" in the process; the answer comes when it is there.

        `timeout` in seconds, from now on: a call that is running then is killed with its process, one that still
        waits is CallTimeout. Answers CallFailed, FrameTooLarge, MailboxFull, and SpecError for what no frame carries.
        """
        reply = self.defer()
        try:
            job = self._job(function, args, kwargs, self._timeout if timeout is None else timeout, reply)
        except SupervisorsError as error:
            reply.fail(error)
            return reply
        job.timer = self.send_after(job.seconds, Port.expired, job.number)
        self._waiting.append(job)
        self._go_on()
        return reply

    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def expired(self, number: int) -> None:
        """The port's message to itself: the time of a call is over."""
        running = self._running
        if running is not None and running.number == number:
            self._late = running
            self._process.kill()
            return
        for job in self._waiting:
            if job.number == number:
                self._waiting.remove(job)
                job.reply.fail(CallTimeout(self.name, job.seconds, "timeout="))
                return

    def answered(self, frame: bytes) -> None:
        """The process has answered the call that is running."""
        job, self._running = self._running, None
        if job is not None:
            job.over()
            self._settle(job, frame)
            self._go_on()

    def process_ended(self, ended: Ended) -> None:
        """The process is dead, and so is its port."""
        late = self._late
        error: SupervisorsError = PortExited(self.name, ended.code, ended.last_words)
        if late is not None:
            error = PortTimeout(self.name, late.function, late.seconds, ended.last_words)
        elif ended.problem is not None:
            error = PortProtocol(self.name, ended.problem, ended.last_words)
        self.stop(Crash(error))

    def terminate(self, exit: Exit) -> None:
        """End the process: at once if it works, else let it end by itself, for a second at most."""
        for job in self._waiting:
            job.reply.fail(ActorDied(self.name, exit, False, self.ref.incarnation))
        process = self._process
        if self._running is None:
            process.close()
            process.ended.wait(GRACE, self.clock)
        process.kill()
        process.ended.wait(GRACE, self.clock)

    # details

    def _job(
        self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, seconds: float, reply: Reply[Any]
    ) -> Job:
        module, _, name = function.partition(":") if isinstance(function, str) else ("", "", "")
        _check(bool(module and name), "function", function, 'a str "module:function"')
        _check(seconds > 0, "timeout", seconds, "seconds > 0")
        if self._max_queue is not None and len(self._waiting) >= self._max_queue and self._running is not None:
            raise MailboxFull(self.name, self._max_queue)
        try:
            frame: bytes = msgpack.packb((function, list(args), dict(kwargs or {})))
        except (TypeError, ValueError, OverflowError) as error:
            raise SpecError("args", f"{args!r:.200}", f"what msgpack carries ({error})") from error
        if len(frame) > self._max_frame:
            raise FrameTooLarge(function, len(frame), self._max_frame)
        return Job(next(self._numbers), function, frame, seconds, reply)

    def _go_on(self) -> None:
        """Send the next call, if the process is idle: one at a time, so that the others certainly were not begun."""
        while self._running is None and self._waiting and self._late is None:
            job = self._waiting.popleft()
            if job.reply.done():  # nobody wants it any more
                job.over()
            else:
                self._running = job
                self._process.send(job.frame)

    def _settle(self, job: Job, frame: bytes) -> None:
        what, *said = msgpack.unpackb(frame, strict_map_key=False)
        if what == ANSWER:
            job.reply.set(said[0])
        elif what == RAISED:
            job.reply.fail(CallFailed(job.function, *said))
        elif what == TOO_LARGE:
            job.reply.fail(FrameTooLarge(job.function, said[0], self._max_frame))
        else:
            job.reply.fail(SpecError(f"the value of {job.function}", said[0], "what msgpack carries"))


def _check(fine: bool, field: str, value: object, allowed: str) -> None:
    if not fine:
        raise SpecError(field, value, allowed)
