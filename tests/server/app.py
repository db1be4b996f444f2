"""The server's process: `python -m tests.server.app` prints its port and serves until its standard input ends.

Routes: `POST` on the paths of `dialects.DIALECTS`, `GET /v1/models` and `/health`, each below `/f/<fault>` too; a fault
may also come as the query or in the header `X-Stub`. Control routes: `POST /_control`, `POST /_release`, `GET /_stats`,
`GET /_bodies`, `GET /_wait`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.server.answers import Answers
from tests.server.connection import Connection, Job, Request
from tests.server.counters import Counters
from tests.server.dialects import DIALECTS, Dialect, Said, by_schema
from tests.server.exchange import Answer, Exchange
from tests.server.faults import Fault, Plan, checked, parse_fault, parse_step
from tests.server.pace import Pace
from tests.server.streaming import Performance, StreamExchange
from tests.server.validate import Refused, read_json

PAGE = b"<!doctype html><html><body><h1>Bad gateway</h1><p>upstream sent something else</p></body></html>"
_WHOLE = {"html", "empty", "body", "whole", "error", "no_choices"}
"""Faults with which an answer comes in one piece, whatever was asked for."""

_encode = json.JSONEncoder(ensure_ascii=False).encode
_CONTROL = {"answer", "fault", "plan", "keys", "models", "keep", "pace"}


class Waiter:
    """A `GET /_wait` under way."""

    def __init__(self, app: StubApp, connection: Connection, conditions: list[str], seconds: float) -> None:
        self.app, self.connection, self.seconds = app, connection, seconds
        self.counters = app.counters
        self.entry = (conditions, self.answer)

    def start(self) -> None:
        if self.counters.hold(self.entry[0]):
            self.connection.current = None
            self._send()
        else:
            self.counters.waiting.append(self.entry)
            self.timer = asyncio.get_running_loop().call_later(self.seconds, self._late)

    def answer(self) -> None:
        self.timer.cancel()
        self._send()
        self.connection.done()

    def paused(self, paused: bool) -> None:
        pass

    def client_left(self) -> None:
        self.timer.cancel()
        if self.entry in self.counters.waiting:
            self.counters.waiting.remove(self.entry)

    def _late(self) -> None:
        self.counters.waiting.remove(self.entry)
        self._send(504)
        self.connection.done()

    def _send(self, status: int = 200) -> None:
        self.app.reply(self.connection, self.counters.as_dict(), status)


class StubApp:
    """All state of the server. Everything runs on its one loop."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.shows: dict[tuple[str, ...], Performance] = {}
        """Streams as they were last played, to be played again."""
        self.configure({})

    def configure(self, config: dict[str, Any]) -> None:
        """Begin anew: drop what is under way, forget what was seen, take the new behaviour."""
        unknown = set(config) - _CONTROL
        if unknown:
            msg = f"control takes {', '.join(sorted(_CONTROL))}, not {sorted(unknown)[0]!r}"
            raise ValueError(msg)
        answers = Answers(config.get("answer"))
        fault = parse_fault(config.get("fault", ""))
        plan = Plan([parse_step(entry) for entry in config.get("plan", ())])
        self.answers, self.fault, self.plan = answers, fault, plan
        self.keys: list[str] | None = config.get("keys")
        self.models: list[str] | None = config.get("models")
        self.pace = Pace(**config["pace"]) if config.get("pace") else None
        self.gate: list[Exchange] = []
        self.began = time.monotonic()
        self.counters = Counters(config.get("keep", 100))
        for connection in list(self.connections):
            if isinstance(connection.current, Exchange):
                self.connections.discard(connection)
                connection.current.abandon()
        self.counters.open = len(self.connections)

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.counters.accepted += 1
        self.counters.open += 1

    def closed(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self.counters.open -= 1
            self.counters.changed()

    def arrived(self, connection: Connection, request: Request) -> Job | None:
        path, _, query = request.target.partition("?")
        if path.startswith("/_"):
            return self._control(connection, request, path, query)
        counters = self.counters
        counters.requests += 1
        counters.in_flight += 1
        counters.peak = max(counters.peak, counters.in_flight)
        counters.reused += connection.carried > 0
        connection.carried += 1
        counters.arrivals.append(time.monotonic() - self.began)
        counters.bodies.append({"target": request.target, "headers": request.headers, "body": request.body})
        counters.changed()
        fault: Fault = {}
        try:
            fault, path = self._fault_of(request, path, query)
            if self.pace is not None:
                fault.update(self.pace.take(time.monotonic() - self.began))
            answer = self._route(request, path, fault)
        except Refused as refused:
            counters.invalid += 1
            fault, answer = {}, self._error(path, refused.status, refused.error)
        dialect = DIALECTS.get(path)
        answer.headers.append((dialect.id_header if dialect else "x-request-id", f"req-{counters.requests}"))
        if answer.show is not None:
            return StreamExchange(connection, counters, fault, answer, self.gate, answer.show)
        return Exchange(connection, counters, fault, answer, self.gate)

    def _fault_of(self, request: Request, path: str, query: str) -> tuple[Fault, str]:
        fault = dict(self.fault)
        fault.update(self.plan.take(request.body) or ())
        try:
            if path.startswith("/f/"):
                spec, _, rest = path[3:].partition("/")
                fault.update(parse_fault(unquote(spec)))
                path = "/" + rest
            if query:
                fault.update(checked(dict(parse_qsl(query, keep_blank_values=True))))
            if "x-stub" in request.headers:
                fault.update(parse_fault(request.headers["x-stub"]))
        except ValueError as error:
            raise Refused(str(error), "fault") from error
        return fault, path

    def _route(self, request: Request, path: str, fault: Fault) -> Answer:
        dialect = DIALECTS.get(path, DIALECTS["/v1/chat/completions"])
        key = request.headers.get(dialect.key_header, "").removeprefix("Bearer ")
        if self.keys is not None and key not in self.keys:
            raise Refused("Incorrect API key provided", code="invalid_api_key", status=401)
        if path in ("/v1/models", "/health"):
            if request.method != "GET":
                raise Refused(f"Not allowed to POST on {path}", status=405)
            listed = [{"id": name, "object": "model", "owned_by": "stub"} for name in self.models or ["stub"]]
            listing = {"object": "list", "data": listed}
            return self._shape({"status": "ok"} if path == "/health" else listing, fault, dialect)
        if path not in DIALECTS:
            raise Refused(f"Invalid URL ({request.method} {path})", status=404)
        if request.method != "POST":
            raise Refused(f"Not allowed to {request.method} on {path}", status=405)
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Refused("Content-Type must be application/json", status=415)
        if path == "/v1/messages" and request.headers.get("anthropic-version") != "2023-06-01":
            raise Refused("anthropic-version: header is required", status=400)
        body = dialect.check(read_json(request.body))
        if self.models is not None and body["model"] not in self.models:
            message = f"The model '{body['model']}' does not exist"
            raise Refused(message, "model", "model_not_found", status=404)
        if body.get("stream") and dialect.stream is None:
            raise Refused("Embeddings are not streamed", "stream", "unsupported_value")
        if body.get("stream") and not _WHOLE.intersection(fault) and fault.get("status", "200") == "200":
            return self._streamed(dialect, body, fault)
        return self._shape(self._answered(dialect, body, fault), fault, dialect)

    def _streamed(self, dialect: Dialect, body: dict[str, Any], fault: Fault) -> Answer:
        """The head of a streamed answer, with what is to be played."""
        self.counters.streams += 1
        assert dialect.stream is not None
        whole = self._answered(dialect, body, fault)
        same = {key: value for key, value in whole.items() if key not in ("id", "created", "created_at")}
        key = (_encode(same), _encode(fault), _encode(body.get("stream_options")))
        show = self.shows.get(key)
        if show is None:
            if len(self.shows) >= 100:
                self.shows.clear()
            code = fault.get("code", "")
            error = self._failure(dialect, int(code) if code.isdigit() else 500, fault)
            show = self.shows[key] = Performance(dialect.stream(body, whole, fault, error), fault)
        answer = Answer(200, [], content_type="text/event-stream; charset=utf-8", chunked=True, show=show)
        answer.unframed = "unframed" in fault
        answer.headers.extend((key[2:], value) for key, value in fault.items() if key.startswith("h."))
        return answer

    def _answered(self, dialect: Dialect, body: dict[str, Any], fault: Fault) -> dict[str, Any]:
        count = self.counters.requests
        schema = dialect.schema(body)
        text = fault.get("text") or (_encode(by_schema(schema)) if schema is not None else "")
        text = text or self.answers.complete(dialect.turns(body), count)
        text += "x" * max(0, int(fault.get("pad", 0)) - len(text))
        said = Said(text, fault.get("call"), fault.get("arguments", "{}"), count, fault)
        answer = dialect.answer(body, said)
        if "no_usage" in fault:
            del answer["usage"]
        return answer

    def _shape(self, data: dict[str, Any], fault: Fault, dialect: Dialect) -> Answer:
        """The healthy answer, or what the fault makes of it."""
        status, kind = int(fault.get("status", 200)), "application/json"
        if status != 200 or "error" in fault:
            data = self._failure(dialect, status, fault)
        body = _encode(data).encode()
        if "html" in fault:
            body, kind = PAGE, "text/html; charset=utf-8"
        elif "malformed" in fault:
            body = body[: len(body) // 2]
        elif "empty" in fault or "body" in fault:
            body = fault.get("body", "").encode()
        answer = Answer(status, [body], content_type=kind, chunked="chunked" in fault)
        if "dribble" in fault:
            size = int(fault.get("piece", 1))
            answer.gap = float(fault["dribble"]) / 1000
            answer.pieces = [body[start : start + size] for start in range(0, len(body), size)]
        if "retry_after" in fault:
            answer.headers.append(("retry-after", fault["retry_after"]))
        answer.headers.extend((key[2:], value) for key, value in fault.items() if key.startswith("h."))
        if "close" in fault:
            answer.headers.append(("connection", "close"))
        answer.end = "hang" if fault.get("hang") == "body" else "close" if "close" in fault else "keep"
        return answer

    @staticmethod
    def _failure(dialect: Dialect, status: int, fault: Fault) -> dict[str, Any]:
        """The error that the fault asks for."""
        error = {
            "message": fault.get("message", f"The stub was told to fail with {status}"),
            "type": fault.get("type", "rate_limit_error" if status == 429 else "server_error"),
            "param": None,
            "code": fault.get("code"),
        }
        return dialect.error(status, error)

    @staticmethod
    def _error(path: str, status: int, error: dict[str, Any]) -> Answer:
        dialect = DIALECTS.get(path, DIALECTS["/v1/chat/completions"])
        return Answer(status, [json.dumps(dialect.error(status, error)).encode()])

    def _control(self, connection: Connection, request: Request, path: str, query: str) -> Job | None:
        if connection.carried == 0:
            self.connections.discard(connection)
            self.counters.accepted -= 1
            self.counters.open -= 1
            connection.carried = 1
        try:
            if (request.method, path) == ("POST", "/_control"):
                self.configure(json.loads(request.body or b"{}"))
            elif (request.method, path) == ("POST", "/_release"):
                self._release(int(dict(parse_qsl(query)).get("count", len(self.gate))))
            elif path == "/_bodies":
                self.reply(connection, [self._seen(entry) for entry in self.counters.bodies])
                return None
            elif path == "/_wait":
                want = parse_qsl(query)
                seconds = float(dict(want).get("timeout", 5))
                conditions = [value for key, value in want if key == "want"]
                self.counters.hold(conditions)
                return Waiter(self, connection, conditions, seconds)
            elif path != "/_stats":
                self.reply(connection, {"error": f"no control route {path}"}, 404)
                return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.reply(connection, {"error": str(error)}, 400)
            return None
        self.reply(connection, self.counters.as_dict())
        return None

    def _release(self, count: int) -> None:
        for exchange in self.gate[:count]:
            exchange.go()

    @staticmethod
    def _seen(entry: dict[str, Any]) -> dict[str, Any]:
        try:
            body = json.loads(entry["body"])
        except ValueError:
            body = entry["body"].decode("utf-8", "replace")
        return {**entry, "body": body}

    @staticmethod
    def reply(connection: Connection, data: object, status: int = 200) -> None:
        """Answer a control request at once."""
        answer = Answer(status, [json.dumps(data).encode()])
        connection.write(answer.head() + answer.whole())


async def serve() -> None:
    """Listen on a free port of 127.0.0.1, print it, serve until standard input ends."""
    loop = asyncio.get_running_loop()
    app = StubApp()
    server = await loop.create_server(lambda: Connection(app), "127.0.0.1", 0, backlog=4096)
    over = asyncio.Event()

    def read() -> None:
        if not sys.stdin.buffer.raw.read(4096):  # type: ignore[attr-defined]
            over.set()

    loop.add_reader(sys.stdin.fileno(), read)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    loop.remove_reader(sys.stdin.fileno())
    server.close()


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65_536), hard))
    gc.collect()
    gc.freeze()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
