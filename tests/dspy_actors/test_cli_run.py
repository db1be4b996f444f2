"""`dspy-actors run`: programs over files, in a process of its own, against the test server and the embedded model."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dspy_actors.modules.chain_of_thought import ChainOfThought
from dspy_actors.modules.predict import Predict
from tests.dspy_actors.command import ROOT, dspy_actors, environment, results, tickets, write_rows
from tests.server.client import StubServer

PROGRAMS = '''
"""Programs that a user wrote."""
from dspy_actors import Module, Predict, Prediction


class Loud(Module):
    """Needs no model."""

    async def aforward(self, ticket, mark="!"):
        if "bad" in ticket:
            raise ValueError("cannot shout this")
        return Prediction(category=ticket.upper() + mark)


class TwoSteps(Module):
    """Its first predictor's input is no column of the data."""

    def __init__(self):
        self.classify = Predict("context, ticket -> category")

    def forward(self, ticket):
        return self.classify(context="a shop", ticket=ticket)


class Down(Module):
    """Ends the actor it runs in."""

    def forward(self, ticket):
        if "bad" in ticket:
            raise SystemExit(3)
        return Prediction(category="ok")


class Odd(Module):
    """Returns what JSON cannot hold."""

    def forward(self, ticket):
        ring = []
        ring.append(ring)
        found = {"ticket number 0": b"\\xff", "ticket number 1": ring}
        return Prediction(size=len(ticket), category=found.get(ticket, "ok"))


loud = Loud()


def make():
    return Predict("ticket -> category")
'''

MEMORY = """
import atexit, sys
def peak():
    status = open("/proc/self/status").read()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
atexit.register(peak)
from dspy_actors.cli.main import main
main()
"""


ASKS_TWICE = """
from dspy_actors import Module, Predict

class Twice(Module):
    def __init__(self):
        self.ask = Predict("ticket -> category")

    async def aforward(self, ticket):
        await self.ask.acall(ticket=ticket)
        return await self.ask.acall(ticket="second")

program = Twice()
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the programs of a user and three rows."""
    (tmp_path / "mine.py").write_text(PROGRAMS)
    tickets(tmp_path / "rows.jsonl", 3)
    return tmp_path


def openai(stub: StubServer) -> tuple[str, str, str, str]:
    """The options that send a program to the test server."""
    return ("--lm", "openai/stub", "--base-url", stub.base_url)


def test_a_signature_runs_over_a_file_and_writes_a_line_a_row(here: Path, stub: StubServer) -> None:
    stub.control(answer={"mode": "layout", "fields": {"category": "billing", "urgency": "low"}})
    ended = dspy_actors(
        "run", "ticket -> category, urgency", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", cwd=here
    )
    assert ended.code == 0
    assert [line["outputs"] for line in results(here / "out.jsonl")] == [{"category": "billing", "urgency": "low"}] * 3


def test_the_embedded_model_is_the_one_asked_when_none_is_named(here: Path) -> None:
    ended = dspy_actors("run", "ticket -> c: Literal['a', 'b']", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here)
    assert ended.code == 0
    assert {line["outputs"]["c"] for line in results(here / "out.jsonl")} <= {"a", "b"}


@pytest.mark.parametrize("name", ["mine:Loud", "mine:loud"])
def test_a_program_is_named_by_its_class_or_its_instance(here: Path, name: str) -> None:
    assert dspy_actors("run", name, "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    assert results(here / "out.jsonl")[1]["outputs"] == {"category": "TICKET NUMBER 1!"}


def test_a_program_is_named_by_a_function_that_makes_it(here: Path, stub: StubServer) -> None:
    ended = dspy_actors("run", "mine:make", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", cwd=here)
    assert ended.code == 0
    assert stub.stats()["requests"] == 3


def test_a_program_is_given_the_columns_that_its_forward_takes(here: Path, stub: StubServer) -> None:
    ended = dspy_actors("run", "mine:TwoSteps", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", cwd=here)
    assert ended.code == 0
    assert all("outputs" in line for line in results(here / "out.jsonl"))


def test_an_optional_column_is_passed_where_the_row_has_it(here: Path) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": "a", "mark": "?"}, {"ticket": "b"}])
    assert dspy_actors("run", "mine:loud", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    assert [line["outputs"]["category"] for line in results(here / "out.jsonl")] == ["A?", "B!"]


def test_a_saved_program_runs_with_its_demonstrations(here: Path, stub: StubServer) -> None:
    program = Predict("ticket -> category")
    program.demos = [{"ticket": "a parcel that was shown before", "category": "delivery"}]
    program.save(here / "saved.json")
    arguments = ("--signature", "ticket -> category", "--data", "rows.jsonl", "--out", "out.jsonl")
    assert dspy_actors("run", "saved.json", *arguments, *openai(stub), cwd=here).code == 0
    assert all("a parcel that was shown before" in str(seen["body"]) for seen in stub.bodies())


def test_a_saved_chain_of_thought_is_known_by_its_file(here: Path, stub: StubServer) -> None:
    ChainOfThought("ticket -> category").save(here / "saved.json")
    arguments = ("--signature", "ticket -> category", "--data", "rows.jsonl", "--out", "out.jsonl")
    assert dspy_actors("run", "saved.json", *arguments, *openai(stub), cwd=here).code == 0
    assert set(results(here / "out.jsonl")[0]["outputs"]) == {"reasoning", "category"}


def test_csv_rows_run_like_jsonl_rows(here: Path) -> None:
    with (here / "rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["ticket", "id"], ["a, b", "1"], ["two\r\nlines", "2"], ["é", "3"]])
    assert dspy_actors("run", "mine:Loud", "--data", "rows.csv", "--out", "out.jsonl", cwd=here).code == 0
    assert [line["outputs"]["category"] for line in results(here / "out.jsonl")] == ["A, B!", "TWO\r\nLINES!", "É!"]


def test_a_line_keeps_the_whole_row_and_its_place(here: Path) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": "a", "id": 7, "tags": ["x", None]}, {"ticket": "b\u2028", "id": 8}])
    assert dspy_actors("run", "mine:Loud", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    lines = [json.loads(line) for line in (here / "out.jsonl").read_text().split("\n")[:-1]]
    assert [line["row"] for line in lines] == [
        {"ticket": "a", "id": 7, "tags": ["x", None]},
        {"ticket": "b\u2028", "id": 8},
    ]
    assert [line["index"] for line in lines] == [0, 1]


def test_limit_takes_the_first_rows_only(here: Path) -> None:
    tickets(here / "rows.jsonl", 10)
    ended = dspy_actors(
        "run", "mine:Loud", "--data", "rows.jsonl", "--out", "out.jsonl", "--limit", 4, "--json", cwd=here
    )
    assert (ended.summary["rows"], ended.summary["of"]) == (4, 4)
    assert [line["row"]["id"] for line in results(here / "out.jsonl")] == [0, 1, 2, 3]


def test_concurrency_bounds_the_requests_that_are_open(here: Path, stub: StubServer) -> None:
    stub.control(fault="delay=30")
    tickets(here / "rows.jsonl", 20)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 5)
    assert dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).code == 0
    assert stub.stats()["peak"] == 5


def test_results_come_in_the_order_of_the_rows_whatever_their_speed(here: Path, stub: StubServer) -> None:
    stub.control(answer={"mode": "layout"}, plan=[{"match": "number 0", "fault": "delay=300"}, {"fault": "delay=1"}])
    tickets(here / "rows.jsonl", 60)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 4)
    assert dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).code == 0
    assert [(line["index"], line["row"]["id"]) for line in results(here / "out.jsonl")] == [(n, n) for n in range(60)]


def test_a_row_that_fails_is_a_typed_error_in_its_place(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"match": "number 1", "fault": "status=400,code=invalid_value,message=no such thing"}])
    ended = dspy_actors(
        "run", "ticket -> category", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", "--json", cwd=here
    )
    assert (ended.code, ended.summary["succeeded"], ended.summary["failed"]) == (0, 2, 1)
    lines = results(here / "out.jsonl")
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["error"]["kind"] == "lm_invalid_request"
    assert lines[1]["error"]["status"] == 400


def test_a_first_row_that_cannot_be_answered_does_not_keep_the_others_from_running(
    here: Path, stub: StubServer
) -> None:
    stub.control(plan=[{"match": "number 0", "fault": "malformed"}])
    ended = dspy_actors(
        "run", "ticket -> category", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", cwd=here
    )
    assert ended.code == 0
    lines = results(here / "out.jsonl")
    assert [line.get("error", {}).get("kind") for line in lines] == ["lm_unexpected", None, None]
    assert [line["attempts"] for line in lines] == [1, 1, 1]


def test_a_row_that_the_server_dropped_again_and_again_runs_once_more_a_little_later(
    here: Path, stub: StubServer
) -> None:
    stub.control(plan=[{"match": "number 7", "times": 4, "fault": "status=503"}])
    tickets(here / "rows.jsonl", 10)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--json")
    summary = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).summary
    assert summary["succeeded"] == 10
    assert [line["attempts"] for line in results(here / "out.jsonl")] == [1, 1, 1, 1, 1, 1, 1, 5, 1, 1]
    assert summary["sent"] == stub.stats()["requests"] == 14


def test_each_line_has_the_tokens_that_its_row_took(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"match": "number 1", "fault": "status=400"}])
    write_rows(here / "rows.jsonl", [{"ticket": f"ticket number {n}"} for n in range(3)])
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--cache", "kept.sqlite", "--json", *openai(stub))
    summary = dspy_actors("run", "ticket -> category", *arguments, cwd=here).summary
    first, failed, last = results(here / "out.jsonl")
    assert "usage" not in failed
    assert {"prompt_tokens", "completion_tokens"} <= set(first["usage"]) == set(last["usage"])
    taken = [line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"] for line in (first, last)]
    assert sum(taken) == summary["tokens"] > 0
    dspy_actors("run", "ticket -> category", "--overwrite", *arguments, cwd=here)
    again = results(here / "out.jsonl")[0]
    assert (again["cached"], again["attempts"], "usage" in again) == (1, 0, False)


def test_the_tokens_of_a_try_that_failed_later_on_are_its_rows_too(here: Path, stub: StubServer) -> None:
    """The first answer is paid for once, by the try whose second question failed, and then comes from the cache."""
    stub.control(plan=[{"match": "second", "times": 4, "fault": "status=503"}])
    (here / "asking.py").write_text(ASKS_TWICE)
    write_rows(here / "rows.jsonl", [{"ticket": "broken"}])
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--json", *openai(stub))
    summary = dspy_actors("run", "asking:program", *arguments, cwd=here).summary
    (line,) = results(here / "out.jsonl")
    assert (line["cached"], line["attempts"], summary["sent"]) == (1, 6, 6)
    assert line["usage"]["prompt_tokens"] + line["usage"]["completion_tokens"] == summary["tokens"]


def test_rows_that_an_open_breaker_refuses_run_again_when_the_server_is_back(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1}, {"times": 15, "fault": "status=503"}])
    tickets(here / "rows.jsonl", 40)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 16, "--json")
    summary = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).summary
    assert (summary["succeeded"], summary["failed"]) == (40, 0)
    assert [line["index"] for line in results(here / "out.jsonl")] == list(range(40))
    assert summary["sent"] == stub.stats()["requests"] == 55


def test_an_outage_is_told_once_with_the_last_failure_of_the_server(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1}, {"times": 15, "fault": "status=503,message=out+of+order"}])
    tickets(here / "rows.jsonl", 40)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 16)
    ended = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here)
    (said,) = [line for line in ended.err.splitlines() if line.startswith("dspy-actors:")]
    assert "rows wait up to 600 s for the model" in said
    failure = f"lm_server: openai at {stub.base_url} answered 503 server_error: out of order"
    assert f"its last failure was {failure}" in said


def test_a_row_waits_for_a_broken_server_no_longer_than_its_deadline(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1}, {"fault": "status=503"}])
    tickets(here / "rows.jsonl", 24)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 8, "--deadline", 1, "--json")
    summary = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).summary
    assert (summary["succeeded"], summary["failed"]) == (1, 23)
    lines = results(here / "out.jsonl")
    assert [line["index"] for line in lines] == list(range(24))
    kinds = {line["error"]["kind"] for line in lines if "error" in line}
    assert "circuit_open" in kinds <= {"circuit_open", "lm_server", "deadline"}
    assert summary["sent"] == stub.stats()["requests"]


def test_rows_are_not_used_up_while_a_breaker_is_open(here: Path, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1}, {"times": 9, "fault": "status=503"}])
    tickets(here / "rows.jsonl", 200)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 2, "--deadline", 3, "--json")
    summary = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).summary
    assert summary["rows"] == 200
    assert summary["succeeded"] > 180


def test_a_server_that_never_answers_a_row_ends_the_job_before_it_begins(here: Path, stub: StubServer) -> None:
    stub.control(fault="status=503")
    tickets(here / "rows.jsonl", 60)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl")
    complaint = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).postponement
    assert "503" in complaint or "lm_server" in complaint
    assert not (here / "out.jsonl").exists()


def test_an_exception_of_the_program_is_the_error_of_its_row(here: Path) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": "a"}, {"ticket": "bad"}, {"ticket": "c"}])
    assert dspy_actors("run", "mine:Loud", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    lines = results(here / "out.jsonl")
    assert lines[1]["error"] == {"kind": "ValueError", "type": "ValueError", "message": "cannot shout this"}
    assert lines[2]["outputs"] == {"category": "C!"}


def test_a_program_that_ends_its_thread_fails_its_own_row_only(here: Path) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": "a"}, {"ticket": "bad"}, {"ticket": "c"}])
    assert dspy_actors("run", "mine:Down", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    assert ["error" in line for line in results(here / "out.jsonl")] == [False, True, False]


def test_an_input_of_the_wrong_type_is_the_error_of_its_row(here: Path, stub: StubServer) -> None:
    write_rows(here / "rows.jsonl", [{"n": "many"}, {"n": "5"}])
    ended = dspy_actors(
        "run", "n: int -> category", "--data", "rows.jsonl", *openai(stub), "--out", "out.jsonl", cwd=here
    )
    assert ended.code == 0
    first, second = results(here / "out.jsonl")
    assert (first["error"]["kind"], first["error"]["field"]) == ("input", "n")
    assert "outputs" in second


def test_the_summary_counts_what_was_sent_and_answered_from_the_cache(here: Path, stub: StubServer) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": "the same"}] * 5)
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--concurrency", 1, "--json")
    summary = dspy_actors("run", "ticket -> category", *arguments, *openai(stub), cwd=here).summary
    assert (summary["calls"], summary["sent"], summary["cache_hits"]) == (5, 1, 4)
    assert summary["sent"] == stub.stats()["requests"]


def test_the_bar_and_the_summary_are_shown_at_the_end(here: Path) -> None:
    ended = dspy_actors("run", "mine:Loud", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here)
    assert "3/3" in ended.err
    assert ended.out.startswith("3 of 3 rows in ")
    assert ended.out.count("\n") == 1


def test_an_output_that_json_cannot_hold_is_an_error_of_its_row(here: Path) -> None:
    tickets(here / "rows.jsonl", 3)
    ended = dspy_actors("run", "mine:Odd", "--data", "rows.jsonl", "--out", "out.jsonl", "--json", cwd=here)
    assert (ended.code, ended.summary["succeeded"], ended.summary["failed"]) == (0, 1, 2)
    told = [line.get("error", {}).get("message", "") for line in results(here / "out.jsonl")]
    assert [text.partition(" cannot be written as JSON")[0] for text in told] == ["category", "category", ""]
    assert results(here / "out.jsonl")[2]["outputs"] == {"size": 15, "category": "ok"}


def test_a_line_is_json_whatever_the_row_holds(here: Path) -> None:
    (here / "rows.jsonl").write_text('{"ticket": "half a pair: \\ud800, and a NUL: \\u0000"}\n')
    assert dspy_actors("run", "mine:Loud", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here).code == 0
    (line,) = results(here / "out.jsonl")
    assert line["row"]["ticket"] == "half a pair: \ud800, and a NUL: \x00"


def test_memory_does_not_grow_with_the_rows(here: Path) -> None:
    def peak(count: int) -> int:
        write_rows(here / "many.jsonl", ({"ticket": f"{n} {'x' * 400}"} for n in range(count)))
        arguments = ["run", "mine:Loud", "--data", "many.jsonl", "--out", "out.jsonl", "--overwrite", "--json"]
        command = [sys.executable, "-c", MEMORY, *arguments]
        ended = subprocess.run(command, cwd=here, env=environment(), capture_output=True, text=True, check=True)
        assert json.loads(ended.stdout)["succeeded"] == count
        return int(ended.stderr)

    assert ROOT.is_dir()
    assert peak(30_000) - peak(1_000) < 6_000, "kilobytes; the rows alone are 12,000"
