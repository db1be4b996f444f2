"""`Process`: a subprocess that takes and gives frames, can be killed for certain, and leaves nothing behind.

One daemon thread a process moves the bytes and sees the end; whoever sends or kills never blocks. The process leads a
group of its own, so what it has started itself ends with it. It holds the reading end of a pipe that nobody writes
to: when we are gone, however we went, the kernel closes the other end and kills it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from supervisors.ports.child import HEADER
from supervisors.reply import Reply

CHUNK = 1 << 16
"""Bytes read at once."""
MARGIN = 64
"""Bytes of last words kept beyond what is wanted: blank lines at the end are not."""
LAST_CHUNKS = 256
"""Chunks read after the end, at most: something that escaped from the group might write for ever."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code (below 0: that signal), its last words, and what was wrong with its frames."""

    code: int
    last_words: str
    problem: str | None = None


class Frames:
    """Cuts a stream of bytes into frames of at most `bound` bytes. Pure."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are complete with `data`. Raises ValueError for one that is too large."""
        self._bytes += data
        frames = []
        while len(self._bytes) >= HEADER:
            length = int.from_bytes(self._bytes[:HEADER], "big")
            if length > self._bound:
                raise ValueError(f"it announced a frame of {length} bytes where {self._bound} are allowed")
            if len(self._bytes) < HEADER + length:
                break
            frames.append(bytes(self._bytes[HEADER : HEADER + length]))
            del self._bytes[: HEADER + length]
        return frames


@dataclass(frozen=True, slots=True)
class Options:
    """How a process is started."""

    modules: Sequence[str] = ()
    """Imported before it is ready."""
    env: Mapping[str, str] | None = None
    """Added to our own environment."""
    cwd: str | Path | None = None
    max_frame: int = 1 << 24
    """Bytes of a frame, at most."""
    max_words: int = 1 << 12
    """Bytes of its stderr that are kept, from the end."""


class Process:
    """Starts the child at once. All methods may be called from any thread.

    `on_frame(frame)` is called in the thread of the process and must neither block nor raise. The first frame is
    empty and says that the child is ready.
    """

    def __init__(self, name: str, options: Options, on_frame: Callable[[bytes], object]) -> None:
        """Blocks for the few milliseconds that the system takes to start a process. Raises OSError."""
        self._on_frame = on_frame
        self._frames = Frames(options.max_frame)
        self._words = bytearray()
        self._max_words = options.max_words
        self._problem: str | None = None
        self._outgoing: deque[memoryview] = deque()
        self._closing = False
        self._lock = Lock()  # guards the process id and the end of the pipe that wakes the thread, while they are ours
        self._gone = False
        self.ended: Reply[Ended] = Reply()
        """Settles when the process is dead and reaped, and its pipes are closed."""
        self._popen, self._lifeline = _start(options)
        self.pid = self._popen.pid
        self._exit_fd = _exit_fd(self.pid)
        self._woken, self._waking = os.pipe()
        for fd in (self._woken, self._waking, self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        Thread(target=self._work, name=f"supervisors-{name}-{self.pid}", daemon=True).start()

    @property
    def _stdin(self) -> int:
        return _fd(self._popen.stdin)

    @property
    def _stdout(self) -> int:
        return _fd(self._popen.stdout)

    @property
    def _stderr(self) -> int:
        return _fd(self._popen.stderr)

    def send(self, frame: bytes) -> None:
        """Send a frame. Nothing if the process has ended."""
        self._outgoing.append(memoryview(len(frame).to_bytes(HEADER, "big") + frame))
        self._wake()

    def close(self) -> None:
        """Let the child see that there will be no more frames; it ends when it has answered those it has."""
        self._closing = True
        self._wake()

    def kill(self) -> None:
        """Kill it and its group, now. Nothing if it has ended."""
        with self._lock:
            if not self._gone:
                _kill_group(self.pid)

    def _wake(self) -> None:
        with self._lock:
            if not self._gone:
                try:
                    os.write(self._waking, b"!")
                except BlockingIOError:  # it is full of wake-ups already
                    pass

    # the thread

    def _work(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stderr, selectors.EVENT_READ)
            if self._exit_fd is not None:
                selector.register(self._exit_fd, selectors.EVENT_READ)
            while self._step(selector):
                pass
        self._bury()

    def _step(self, selector: selectors.BaseSelector) -> bool:
        """Move what can be moved; False when the process has ended."""
        running = True
        self._prepare_to_write(selector)
        for key, _ in selector.select():
            if key.fd == self._exit_fd:
                running = False
            elif key.fd == self._woken:
                os.read(self._woken, CHUNK)
            elif key.data == "write":
                self._write()
            elif not self._read(key.fd):
                selector.unregister(key.fd)
                running = running and (key.fd != self._stdout or self._exit_fd is not None)
        return running

    def _prepare_to_write(self, selector: selectors.BaseSelector) -> None:
        stdin = self._popen.stdin
        if stdin is None or stdin.closed:
            self._outgoing.clear()
            return
        watched = stdin.fileno() in selector.get_map()
        if self._outgoing and not watched:
            selector.register(stdin.fileno(), selectors.EVENT_WRITE, "write")
        elif not self._outgoing:
            if watched:
                selector.unregister(stdin.fileno())
            if self._closing:
                stdin.close()

    def _write(self) -> None:
        data = self._outgoing.popleft()
        try:
            written = os.write(self._stdin, data)
        except BlockingIOError:
            written = 0
        except BrokenPipeError:  # it is about to end
            self._outgoing.clear()
            return
        if written < len(data):
            self._outgoing.appendleft(data[written:])

    def _read(self, fd: int) -> bool:
        """Read a chunk of frames or of words; False when there is nothing (more)."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if fd == self._stdout:
            self._take(data)
        else:
            self._words += data
            del self._words[: max(0, len(self._words) - self._max_words - MARGIN)]
        return bool(data)

    def _take(self, data: bytes) -> None:
        if self._problem is not None:
            return
        try:
            frames = self._frames.feed(data)
        except ValueError as error:
            self._problem = str(error)
            self.kill()
            return
        for frame in frames:
            self._on_frame(frame)

    def _bury(self) -> None:
        """It is dead, or about to be: read what it left, end its group, reap it, close everything."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # somebody else reaped it, who waits for any child
            pass
        with self._lock:
            self._gone = True
            _kill_group(self.pid)  # it is not reaped yet, so the number is still its own
            os.close(self._waking)
        for fd in (self._stdout, self._stderr):
            for _ in range(LAST_CHUNKS):
                if not self._read(fd):
                    break
        code = self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()
        os.close(self._woken)
        os.close(self._lifeline)
        if self._exit_fd is not None:
            os.close(self._exit_fd)
        words = bytes(self._words).rstrip()
        last_words = words[max(0, len(words) - self._max_words) :].decode(errors="replace")
        self.ended.set(Ended(code, last_words, self._problem))


def _start(options: Options) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of the pipe that it dies of."""
    theirs, ours = os.pipe()
    path = os.pathsep.join(str(Path(each).resolve()) for each in sys.path)
    child = str(Path(__file__).with_name("child.py"))
    command = [sys.executable, "-u", "-P", child, str(options.max_frame), str(theirs), path, *options.modules]
    try:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=None if options.env is None else {**os.environ, **options.env},
            cwd=options.cwd,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return popen, ours


def _exit_fd(pid: int) -> int | None:
    """Something that can be selected on and tells the end of the process; None where the system has no such thing."""
    opened = getattr(os, "pidfd_open", None)
    try:
        return None if opened is None else int(opened(pid))
    except OSError:
        return None


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left in it but the dead leader
        pass


def _fd(pipe: object) -> int:
    number: int = pipe.fileno()  # type: ignore[attr-defined]
    return number
