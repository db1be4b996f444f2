"""`StubServer`: the server's process, started and driven from a test or a benchmark."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

ROOT = Path(__file__).resolve().parents[2]


class StubServer:
    """A model provider on loopback in a process of its own. All methods block for about a millisecond.

    ```python
    with StubServer() as stub:
        stub.control(plan=[{"times": 40, "fault": "status=429,retry_after=1"}])
        ask(stub.base_url)
        assert stub.stats()["requests"] == 41
    ```
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Self:
        """Start the process; returns when it listens."""
        command = [sys.executable, "-E", "-S", "-m", "tests.server.app"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        with self._process.stdout as out:
            line = out.readline()
        if not line.strip().isdigit():
            self.stop()
            msg = "the test server did not start; its standard error says why"
            raise RuntimeError(msg)
        self.port = int(line)
        return self

    def stop(self) -> None:
        """End the process; returns when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What goes into an LM's `base_url`."""
        return f"{self.url}/v1"

    def at(self, fault: str) -> str:
        """A `base_url` under which every request has this fault, such as `status=503,delay=50`."""
        return f"{self.url}/f/{quote(fault, safe='=,')}/v1"

    def control(self, **config: Any) -> None:
        """Reset, then behave so: `answer` (see `answers.py`), `fault` and `plan` (see `faults.py`), `keys` and `models`
        that are known, `pace` (see `pace.py`), `keep` so many bodies.
        """
        self._ask("POST", "/_control", config)

    def reset(self) -> None:
        """Drop what is under way, forget what was seen, answer every layout in good health."""
        self.control()

    def release(self, count: int | None = None) -> None:
        """Let `count` requests go on that wait because of a `hold` fault, oldest first; all by default."""
        self._ask("POST", "/_release" if count is None else f"/_release?count={count}")

    def stats(self) -> dict[str, Any]:
        """The counts since the reset (see `counters.py`)."""
        return dict(self._ask("GET", "/_stats"))

    def bodies(self) -> list[dict[str, Any]]:
        """The last requests, oldest first: `target`, `headers` (lower-case names), `body` as data."""
        return list(self._ask("GET", "/_bodies"))

    def wait(self, *conditions: str, timeout: float = 5.0) -> dict[str, Any]:
        """The counts once all `conditions`, such as `aborted>=1`, hold; `TimeoutError` after `timeout` seconds."""
        query = urlencode([("want", condition) for condition in conditions] + [("timeout", str(timeout))])
        return dict(self._ask("GET", f"/_wait?{query}", patience=timeout + 10))

    def _ask(self, method: str, path: str, data: object = None, patience: float = 10.0) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)
        try:
            body = None if data is None else json.dumps(data)
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 504:
            msg = f"waited in vain for {path}; the server saw {answer}"
            raise TimeoutError(msg)
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
