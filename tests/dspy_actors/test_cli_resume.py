"""`dspy-actors run` over a result file that is there: it goes on with it, begins it anew, or refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_actors.batch import Mapped
from dspy_actors.cli.made_by import made_by
from dspy_actors.cli.results import ResultFile
from dspy_actors.cli.sole_writer import sole_writer
from dspy_actors.errors import DataError
from dspy_actors.example import Prediction
from dspy_actors.lm.lm import LM
from dspy_actors.modules.module import Module
from dspy_actors.modules.outcome import Outcome
from dspy_actors.modules.predict import Predict
from tests.dspy_actors.command import Ended, beginning, dspy_actors, end_of, inside, results, tickets, write_rows
from tests.server.client import StubServer

Run = Callable[..., Ended]
OLD = "answered before"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """The working directory, with five rows in it."""
    tickets(tmp_path / "rows.jsonl", 5)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str], stub: StubServer) -> Run:
    """`dspy-actors run OPTIONS` over the rows at the test server; in this process, for speed."""
    return lambda *options, **named: inside(capsys, *arguments(stub, *options, **named))


def arguments(stub: StubServer, *options: object, data: str = "rows.jsonl") -> tuple[object, ...]:
    where = ("--lm", "openai/stub", "--base-url", stub.base_url)
    return ("run", "ticket -> category", "--data", data, "--out", "out.jsonl", "--json", *where, *options)


def answered(index: int, **row: Any) -> str:
    """A line of an earlier run."""
    row = row or {"ticket": f"ticket number {index}", "id": index}
    return json.dumps({"index": index, "row": row, "outputs": {"category": OLD}}) + "\n"


def failed(index: int, **row: Any) -> str:
    """A line of an earlier run for a row that it could not answer."""
    row = row or {"ticket": f"ticket number {index}", "id": index}
    return json.dumps({"index": index, "row": row, "error": {"kind": "lm_server", "message": "down"}}) + "\n"


def left_by_an_earlier_run(here: Path, *lines: str) -> bytes:
    (here / "out.jsonl").write_text("".join(lines))
    return (here / "out.jsonl").read_bytes()


def asked(stub: StubServer) -> list[int]:
    """The numbers of the rows that reached the server."""
    return sorted(int(str(seen["body"]).rpartition("ticket number ")[2].split("\\n")[0]) for seen in stub.bodies())


def has_lines(path: Path, count: int) -> None:
    """Return once the file has so many lines."""
    for _ in range(2000):
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        threading.Event().wait(0.01)
    pytest.fail(f"{path} has no {count} lines")


# -- going on --------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_goes_on_where_it_ended_and_asks_no_finished_row_again(
    here: Path, stub: StubServer
) -> None:
    tickets(here / "rows.jsonl", 20)
    stub.control(plan=[{"times": 6}, {"fault": "hang"}])
    with beginning(*arguments(stub, "--concurrency", 1), cwd=here) as process:
        has_lines(here / "out.jsonl", 6)
        assert end_of(process, signal.SIGKILL).code == -signal.SIGKILL
    stub.control()
    ended = dspy_actors(*arguments(stub, "--resume"), cwd=here)
    assert ended.code == 0
    assert asked(stub) == list(range(6, 20))
    assert stub.stats()["requests"] == 14
    assert [(line["index"], line["row"]["id"]) for line in results(here / "out.jsonl")] == [(n, n) for n in range(20)]
    assert (ended.summary["rows"], ended.summary["succeeded"], ended.summary["kept"]) == (20, 20, 6)


def test_rows_that_failed_are_asked_again_and_the_file_is_in_order_afterwards(
    here: Path, run: Run, stub: StubServer
) -> None:
    left_by_an_earlier_run(here, answered(0), failed(1), answered(3), failed(4))
    ended = run("--resume")
    assert ended.code == 0
    assert asked(stub) == [1, 2, 4]
    lines = results(here / "out.jsonl")
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["outputs"]["category"] == OLD for line in lines] == [True, False, False, True, False]


def test_where_all_rows_that_were_asked_failed_those_that_were_kept_are_no_success(
    here: Path, run: Run, stub: StubServer
) -> None:
    """The exit code was 0."""
    left_by_an_earlier_run(here, answered(0), failed(1), answered(3))
    stub.control(fault="status=400")
    ended = run("--resume")
    assert (ended.code, ended.summary["kept"], ended.summary["failed"]) == (1, 2, 3)


def test_a_strict_run_succeeds_only_where_every_row_has_an_answer(here: Path, run: Run, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "status=400"}])
    first, again, once_more = run("--strict"), run("--strict", "--resume"), run("--strict", "--resume")
    assert [each.code for each in (first, again, once_more)] == [1, 0, 0]
    assert [each.summary["failed"] for each in (first, again, once_more)] == [1, 0, 0]
    stub.control(plan=[{"times": 1, "fault": "status=400"}])
    assert run("--overwrite").code == 0


def test_a_last_line_that_was_cut_off_is_dropped_and_its_row_asked_again(
    here: Path, run: Run, stub: StubServer
) -> None:
    left_by_an_earlier_run(here, answered(0), answered(1), answered(2)[:-20])
    assert run("--resume").code == 0
    assert asked(stub) == [2, 3, 4]
    assert [line["index"] for line in results(here / "out.jsonl")] == [0, 1, 2, 3, 4]


def test_a_last_line_that_lacks_nothing_but_its_line_feed_is_kept(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, answered(0), answered(1).rstrip())
    assert run("--resume").code == 0
    assert asked(stub) == [2, 3, 4]
    assert [line["index"] for line in results(here / "out.jsonl")] == [0, 1, 2, 3, 4]


def test_a_line_feed_that_lacks_is_added_although_no_row_is_left(here: Path, run: Run) -> None:
    before = left_by_an_earlier_run(here, *(answered(n) for n in range(4)), answered(4).rstrip())
    assert run("--resume").code == 0
    assert (here / "out.jsonl").read_bytes() == before + b"\n"


def test_a_resumed_run_that_was_killed_too_has_lost_nothing(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, answered(3), failed(1), answered(4), answered(1), failed(0), answered(0)[:30])
    assert run("--resume").code == 0
    assert asked(stub) == [0, 2]
    assert [line["index"] for line in results(here / "out.jsonl")] == [0, 1, 2, 3, 4]


def test_an_error_that_comes_behind_a_prediction_takes_nothing_from_it(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, *(answered(n) for n in range(5)), failed(2))
    assert run("--resume").code == 0
    assert asked(stub) == []
    assert [line["outputs"]["category"] for line in results(here / "out.jsonl")] == [OLD] * 5


def test_a_row_that_fails_again_has_its_last_error_alone(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, answered(0), failed(1), *(answered(n) for n in (2, 3, 4)))
    stub.control(fault="status=400")
    ended = run("--resume")
    assert (ended.code, ended.summary["failed"], ended.summary["kept"]) == (1, 1, 4)
    lines = results(here / "out.jsonl")
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[1]["error"]["kind"] == "lm_invalid_request"


def test_where_every_row_has_its_prediction_nobody_is_asked_and_the_file_stays(
    here: Path, run: Run, stub: StubServer
) -> None:
    before = left_by_an_earlier_run(here, *(answered(n) for n in range(5)))
    ended = run("--resume")
    assert (ended.code, ended.summary["rows"], ended.summary["out"]) == (0, 5, "out.jsonl")
    assert stub.stats()["requests"] == 0
    assert (here / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("lines", [None, ()], ids=["no file", "an empty file"])
def test_where_there_is_nothing_to_go_on_with_a_run_begins(
    here: Path, run: Run, stub: StubServer, lines: tuple[str, ...] | None
) -> None:
    if lines is not None:
        left_by_an_earlier_run(here, *lines)
    assert run("--resume").code == 0
    assert asked(stub) == [0, 1, 2, 3, 4]
    assert len(results(here / "out.jsonl")) == 5


def test_a_file_of_the_first_rows_is_gone_on_with_over_more_of_them(here: Path, run: Run, stub: StubServer) -> None:
    assert run("--limit", 2).code == 0
    assert run("--resume").code == 0
    assert asked(stub) == [0, 1, 2, 3, 4]
    assert [line["index"] for line in results(here / "out.jsonl")] == [0, 1, 2, 3, 4]


def test_a_row_that_failed_may_have_been_mended_in_the_data(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, *(answered(n) for n in range(4)), failed(4, ticket="", id=4))
    assert run("--resume").code == 0
    assert asked(stub) == [4]
    assert results(here / "out.jsonl")[4]["row"]["ticket"] == "ticket number 4"


@pytest.mark.parametrize(
    "text",
    [
        '{"ticket": "half a pair: \\ud800, a NUL: \\u0000, a line: \\u2028"}',
        '{"ticket": "a", "n": 1e999}',
        '{"ticket": "a", "n": 123456789012345678901234567890, "x": 0.1, "deep": [{"1": null}]}',
    ],
)
def test_a_row_is_known_again_whatever_it_holds(here: Path, run: Run, stub: StubServer, text: str) -> None:
    (here / "rows.jsonl").write_text(f"{text}\n")
    assert run().code == 0
    assert run("--resume").summary["kept"] == 1
    assert stub.stats()["requests"] == 1


def test_rows_of_a_csv_file_are_known_again(here: Path, run: Run, stub: StubServer) -> None:
    (here / "rows.csv").write_text('ticket,id\n"two\nlines",1\nb,2\n')
    assert run("--limit", 1, data="rows.csv").code == 0
    assert run("--resume", data="rows.csv").summary["kept"] == 1
    assert stub.stats()["requests"] == 2


def test_putting_the_file_in_order_keeps_its_mode_and_leaves_nothing_beside_it(here: Path, run: Run) -> None:
    left_by_an_earlier_run(here, answered(4), answered(2))
    (here / "out.jsonl").chmod(0o640)
    assert run("--resume").code == 0
    assert (here / "out.jsonl").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(here)) == ["out.jsonl", "rows.jsonl"]


# -- what is refused, before anything is paid ------------------------------------------------------------------


def test_a_result_file_that_is_there_is_refused_with_what_to_write(here: Path, run: Run, stub: StubServer) -> None:
    before = left_by_an_earlier_run(here, answered(0))
    complaint = run().complaint
    assert "--out out.jsonl is there already" in complaint
    assert "--resume" in complaint
    assert "--overwrite" in complaint
    assert stub.stats()["requests"] == 0
    assert (here / "out.jsonl").read_bytes() == before


def test_overwriting_begins_anew(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, *(answered(n) for n in range(5)), "not ours\n")
    ended = run("--overwrite")
    assert (ended.code, ended.summary["kept"]) == (0, 0)
    assert asked(stub) == [0, 1, 2, 3, 4]
    assert all(line["outputs"]["category"] != OLD for line in results(here / "out.jsonl"))


def test_going_on_and_beginning_anew_exclude_each_other(run: Run) -> None:
    ended = run("--resume", "--overwrite")
    assert ended.code == 2
    assert "give one of them" in ended.err


BAD_FILES = {
    "another row": ((answered(0), answered(1, ticket="another", id=1)), (), "index 1 has the answer to another row"),
    "another column": ((answered(0, ticket="ticket number 0", id=7),), (), "index 0 has the answer to another row"),
    "more rows": ((answered(0), failed(5)), (), "line 2: index 5, and 5 rows are read of rows.jsonl"),
    "a limit": ((answered(0), answered(3)), ("--limit", 3), "line 2: index 3, and 3 rows are read of rows.jsonl"),
    "no result": (("precious\n", answered(0)), (), "line 1: no result of `dspy-actors run`"),
    "no index": (('{"index": -1, "row": {}, "outputs": {}}\n',), (), "line 1: no result of `dspy-actors run`"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_does_not_fit_the_data_is_refused_before_anything_is_asked(
    here: Path, run: Run, stub: StubServer, case: str
) -> None:
    lines, options, why = BAD_FILES[case]
    before = left_by_an_earlier_run(here, *lines)
    complaint = run("--resume", *options).complaint
    assert why in complaint
    assert "name another --out" in complaint
    assert stub.stats()["requests"] == 0
    assert (here / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_file_that_a_run_still_writes_is_refused_before_anything_is_asked(
    here: Path, run: Run, stub: StubServer, option: str
) -> None:
    before = left_by_an_earlier_run(here, answered(0), failed(1))
    with sole_writer(Path("out.jsonl")):
        complaint = run(option).complaint
    assert "--out out.jsonl is being written by another run" in complaint
    assert stub.stats()["requests"] == 0
    assert (here / "out.jsonl").read_bytes() == before
    assert run(option).code == 0


def test_a_run_keeps_the_file_that_it_makes_from_others(here: Path, run: Run) -> None:
    with ResultFile(Path("out.jsonl")) as first:
        first.write(Mapped(0, {"ticket": "ticket number 0", "id": 0}, Outcome("", Prediction(category=OLD))))
        assert "is being written by another run" in run("--resume").complaint
    assert run("--resume").summary["kept"] == 1


def test_several_runs_at_once_may_write_what_is_no_file(here: Path) -> None:
    mapped = Mapped(0, {}, Outcome("", Prediction(category="new")))
    with ResultFile(Path(os.devnull)) as first, ResultFile(Path(os.devnull)) as second:
        first.write(mapped)
        second.write(mapped)
        assert (first.written, second.written) == (1, 1)


def test_a_file_that_another_run_has_made_meanwhile_stays(here: Path) -> None:
    with ResultFile(Path("out.jsonl")) as late:
        before = left_by_an_earlier_run(here, answered(0))
        with pytest.raises(DataError, match="made by another run meanwhile"):
            late.write(Mapped(0, {}, Outcome("", Prediction(category="new"))))
    assert (here / "out.jsonl").read_bytes() == before


def test_a_run_that_goes_on_and_finds_no_model_leaves_the_file_as_it_was(
    here: Path, run: Run, stub: StubServer
) -> None:
    before = left_by_an_earlier_run(here, answered(0), failed(1), answered(2)[:-9])
    stub.control(fault="status=503")
    assert run("--resume").code == 75
    assert (here / "out.jsonl").read_bytes() == before


def test_the_tokens_of_kept_lines_are_summed_beside_those_of_the_run(here: Path, run: Run, stub: StubServer) -> None:
    """They were 0, as if nothing had been paid for them."""
    first = run("--limit", 3).summary
    again = run("--resume").summary
    assert (first["kept_tokens"], again["kept_tokens"]) == (0, first["tokens"])
    usages = [line["usage"] for line in results(here / "out.jsonl")]
    told = sum(usage["prompt_tokens"] + usage["completion_tokens"] for usage in usages)
    assert told == again["tokens"] + again["kept_tokens"]


# -- the cache -------------------------------------------------------------------------------------------------


def test_a_cache_file_answers_what_an_earlier_run_has_paid_for(here: Path, run: Run, stub: StubServer) -> None:
    write_rows(here / "rows.jsonl", [{"ticket": f"ticket number {n}"} for n in range(3)])
    assert run("--cache", "answers.sqlite").summary["sent"] == 3
    summary = run("--cache", "answers.sqlite", "--overwrite").summary
    assert (summary["succeeded"], summary["sent"], summary["cache_hits"]) == (3, 0, 3)
    assert stub.stats()["requests"] == 3


def test_a_cache_file_that_is_something_else_is_refused(here: Path, run: Run, stub: StubServer) -> None:
    assert "rows.jsonl is no cache" in run("--cache", "rows.jsonl").complaint
    assert "name another file" in run("--cache", "out.jsonl").complaint
    assert stub.stats()["requests"] == 0


# -- who made what is kept ---------------------------------------------------------------------------------------


def test_each_line_says_which_program_and_model_made_it(here: Path, run: Run, stub: StubServer) -> None:
    run()
    said = [(line["model"], len(line["program"])) for line in results(here / "out.jsonl")]
    assert said == [("openai/stub", 12)] * 5


def test_a_run_that_keeps_what_it_has_made_itself_says_nothing_of_others(
    here: Path, run: Run, stub: StubServer
) -> None:
    run("--limit", 3)
    ended = run("--resume")
    assert (ended.summary["kept"], ended.summary["kept_by_another"], ended.err) == (3, 0, "")


@pytest.mark.parametrize(
    "changed",
    [("--lm", "openai/other"), ("--temperature", 0.7)],
    ids=["another model", "other options"],
)
def test_predictions_that_were_made_otherwise_are_kept_and_told(
    here: Path, run: Run, stub: StubServer, changed: tuple[object, ...]
) -> None:
    run("--limit", 3)
    ended = run("--resume", *changed)
    assert ended.summary["kept_by_another"] == 3
    assert "3 of the 3 predictions kept in out.jsonl were made by another program, model or options" in ended.err


def test_an_earlier_line_that_does_not_say_who_made_it_is_nobody_elses(here: Path, run: Run, stub: StubServer) -> None:
    left_by_an_earlier_run(here, answered(0), answered(1))
    assert run("--resume").summary["kept_by_another"] == 0


def test_the_same_program_and_model_are_known_again_in_another_process(here: Path, run: Run, stub: StubServer) -> None:
    run("--limit", 3)
    ended = dspy_actors(*arguments(stub, "--resume"), cwd=here, OPENAI_API_KEY="k", PYTHONHASHSEED="77")
    assert (ended.summary["kept"], ended.summary["kept_by_another"]) == (3, 0)


def test_a_programs_mark_changes_with_its_instructions_and_not_with_the_models_address() -> None:
    lm, elsewhere = LM("openai/m", base_url="http://one/v1"), LM("openai/m", base_url="http://two/v1")
    plain, told = Predict("ticket -> category"), Predict("ticket -> category", instructions="Be strict.")
    assert made_by(plain, lm) == made_by(plain.deepcopy(), elsewhere)
    assert made_by(plain, lm)["program"] != made_by(told, lm)["program"]


def test_a_program_that_cannot_be_named_says_its_model_alone() -> None:
    class Holding(Module):
        def __init__(self) -> None:
            self.ask = Predict("ticket -> category")
            self.ask.config = {"stop": object()}

        def forward(self, ticket: str) -> Prediction:
            return self.ask(ticket=ticket)

    assert made_by(Holding(), LM("openai/m")) == {"model": "openai/m"}
