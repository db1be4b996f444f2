"""`dspy-actors demo`: the main job, in a process of its own, on the embedded model and on the test server."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dspy_actors.demo.data import read_tickets
from tests.dspy_actors.command import ROOT, Ended, beginning, dspy_actors, end_of, inside, tickets, write_rows
from tests.server.client import StubServer

KEYS = {"baseline", "optimized", "majority_class", "coverage", "calls", "sent", "cache_hits", "restarts", "lost"}
COURSES = ROOT / "tests" / "data" / "courses.csv"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """The job as it is, with `--json`, and its directory."""
    here = tmp_path_factory.mktemp("demo")
    return dspy_actors("demo", "--json", cwd=here), here


def write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """A `.csv` file of `rows`."""
    held = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(held[0]))
        writer.writeheader()
        writer.writerows(held)
    return path


def at(stub: StubServer) -> tuple[str, ...]:
    """The options that send the job to the test server."""
    return ("--lm", "openai/stub", "--base-url", stub.base_url)


def test_json_is_one_object_with_the_promised_keys(plain: tuple[Ended, Path]) -> None:
    ended, _ = plain
    assert ended.code == 0
    assert set(ended.summary) >= KEYS | {"seconds"}
    assert ended.out.count("\n") == 1
    assert ended.err == ""


def test_optimizing_gains_twenty_points_over_a_baseline_that_beats_guessing(plain: tuple[Ended, Path]) -> None:
    summary = plain[0].summary
    assert summary["optimized"] >= summary["baseline"] + 20
    assert summary["baseline"] >= summary["majority_class"] > 0


def test_one_worker_is_restarted_under_load_and_nothing_is_lost(plain: tuple[Ended, Path]) -> None:
    summary = plain[0].summary
    assert (summary["restarts"], summary["lost"], summary["coverage"]) == (1, 0, 1.0)
    assert summary["open_at_crash"] >= 16
    assert summary["resubmits"] >= 1
    assert summary["restarted_after"] < 5.0


def test_the_saved_program_scores_as_it_did_and_runs(plain: tuple[Ended, Path]) -> None:
    ended, here = plain
    assert ended.summary["reloaded"] == ended.summary["optimized"]
    tickets(here / "rows.jsonl", 2)
    arguments = ("--signature", "ticket -> category, urgency", "--data", "rows.jsonl", "--out", "out.jsonl")
    assert dspy_actors("run", ended.summary["saved"], *arguments, cwd=here).code == 0


@pytest.mark.parametrize(("seed", "concurrency"), [("1", 1), ("2", 64)])
def test_scores_depend_on_no_hash_seed_and_no_concurrency(
    plain: tuple[Ended, Path], tmp_path: Path, seed: str, concurrency: int
) -> None:
    ended = dspy_actors("demo", "--json", "--concurrency", concurrency, cwd=tmp_path, PYTHONHASHSEED=seed)
    names = ("baseline", "optimized", "reloaded", "majority_class", "calls", "cache_hits", "tokens")
    assert [ended.summary[name] for name in names] == [plain[0].summary[name] for name in names]


def test_demonstrations_with_shuffled_labels_do_not_help(tmp_path: Path) -> None:
    rows = read_tickets()
    train = [row for row in rows if row["split"] == "train"]
    labels = [(row["category"], row["urgency"]) for row in train]
    Random(7).shuffle(labels)
    for row, (category, urgency) in zip(train, labels, strict=True):
        row.update(category=category, urgency=urgency)
    summary = dspy_actors("demo", "--json", "--data", write_csv(tmp_path / "rows.csv", rows), cwd=tmp_path).summary
    assert summary["optimized"] <= summary["baseline"] + 5


def test_the_gain_appears_on_another_subject_too(tmp_path: Path) -> None:
    summary = dspy_actors("demo", "--json", "--data", COURSES, cwd=tmp_path).summary
    assert summary["optimized"] >= summary["baseline"] + 20
    assert summary["baseline"] >= summary["majority_class"]


def test_rows_without_a_split_are_split_whatever_pattern_their_labels_have(tmp_path: Path) -> None:
    words = (("sun", "warm"), ("rain", "wet"), ("snow", "cold"))
    rows = [{"text": f"{words[n % 3][0]} on day {n}", "label": words[n % 3][1]} for n in range(60)]
    write_rows(tmp_path / "rows.jsonl", rows)
    summary = dspy_actors("demo", "--json", "--data", "rows.jsonl", cwd=tmp_path).summary
    assert (summary["rows"], summary["optimized"]) == (20, 100.0)


def test_the_server_counts_as_many_requests_as_the_job_says_it_sent(tmp_path: Path, stub: StubServer) -> None:
    stub.control(fault="delay=2")
    summary = dspy_actors("demo", "--json", *at(stub), cwd=tmp_path).summary
    seen = stub.stats()
    assert summary["sent"] == seen["requests"]
    assert (seen["invalid"], summary["restarts"], summary["lost"]) == (0, 1, 0)
    assert summary["open_at_crash"] >= 16


def test_sixteen_requests_are_at_the_server_when_the_worker_crashes(tmp_path: Path, stub: StubServer) -> None:
    # Nothing is answered but the first call until the crash has broken off what was open: it cannot come too late.
    stub.control(plan=[{"times": 1}, {"times": 16, "fault": "hang"}])
    summary = dspy_actors("demo", "--json", *at(stub), cwd=tmp_path).summary
    seen = stub.stats()
    assert seen["aborted"] >= 16
    assert summary["sent"] == seen["requests"]
    assert (summary["coverage"], summary["lost"], summary["restarts"]) == (1.0, 0, 1)


def test_the_show_has_tree_crash_scores_and_counts_on_stdout_and_bars_on_stderr(tmp_path: Path) -> None:
    ended = dspy_actors("demo", cwd=tmp_path)
    assert ended.code == 0
    for part in (
        "RuntimeSupervisor",
        "LMWorker",
        "crashed the LM worker with 16 requests open",
        "successor stood after",
    ):
        assert part in ended.out
    for part in ("majority class", "baseline", "optimized", "coverage 100%", "cache hits", "tokens", "restarts 1"):
        assert part in ended.out
    assert [line.split()[0] for line in ended.err.splitlines()] == ["baseline", "bootstrap", "optimized", "saved"]
    assert "no language model" in ended.out


def test_the_program_is_saved_where_out_says(tmp_path: Path) -> None:
    assert dspy_actors("demo", "--json", "--out", "mine.json", cwd=tmp_path).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]
    assert len(json.loads((tmp_path / "mine.json").read_text())["demos"]) >= 16


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "missing file": (("--data", "rovs.csv"), "rovs.csv: there is no such file"),
    "too few rows": (("--data", "few.jsonl"), "3 rows are too few"),
    "unknown column": (("--data", "rows.jsonl", "--signature", "text -> mood"), "there is no column 'mood'"),
    "bad signature": (("--data", "rows.jsonl", "--signature", "text -> -> label"), "a signature has one arrow"),
    "label of many values": (
        ("--data", "rows.jsonl", "--signature", "label -> text"),
        "column 'text' has 40 different",
    ),
    "ragged row": (("--data", "ragged.jsonl"), "row 30 has no column 'label'"),
    "column with a space": (("--data", "space.jsonl"), "column 'the text' cannot name a field"),
    "keyword as column": (("--data", "keyword.jsonl"), "column 'class' cannot name a field"),
    "no label": (("--data", "texts.jsonl"), "cannot tell inputs from labels"),
    "out is data": (("--data", "rows.jsonl", "--out", "rows.jsonl"), "name another file"),
    "out in no directory": (("--out", "no/optimized.json"), "its directory does not exist"),
    "out of another kind": (("--out", "optimized.pkl"), "a saved program is a .json file"),
    "unknown provider": (("--lm", "wonder/model"), "provider 'wonder' is not known"),
    "no model for the server": (("--base-url", "http://127.0.0.1:9/v1"), "goes with --lm openai/MODEL"),
    "refused": (("--lm", "openai/m", "--base-url", "http://127.0.0.1:1/v1"), "check --base-url and that the server"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a good file and some bad ones."""
    here = tmp_path_factory.mktemp("bad")
    good: list[dict[str, Any]] = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(40)]
    write_rows(here / "rows.jsonl", good)
    write_rows(here / "few.jsonl", good[:3])
    write_rows(here / "ragged.jsonl", [*good[:29], {"text": "no label"}, *good[30:]])
    write_rows(here / "space.jsonl", ({"the text": row["text"], "label": row["label"]} for row in good))
    write_rows(here / "keyword.jsonl", ({"text": row["text"], "class": row["label"]} for row in good))
    write_rows(here / "texts.jsonl", ({"text": row["text"]} for row in good))
    return here


@pytest.mark.parametrize(("arguments", "complaint"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_line_and_nothing_is_saved(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    before = sorted(files.iterdir())
    with contextlib.chdir(files):
        ended = inside(capsys, "demo", "--json", *arguments)
    assert complaint in ended.complaint
    assert ended.out == ""
    assert sorted(files.iterdir()) == before


def test_without_a_key_the_line_says_where_to_put_one(tmp_path: Path) -> None:
    assert "set OPENAI_API_KEY" in dspy_actors("demo", "--lm", "openai/gpt-4o-mini", cwd=tmp_path).complaint


def test_a_wrong_key_ends_the_job_before_it_begins(tmp_path: Path, stub: StubServer) -> None:
    stub.control(keys=["another"])
    complaint = dspy_actors("demo", *at(stub), cwd=tmp_path, OPENAI_API_KEY="sk-wrong").complaint
    assert "check the key in OPENAI_API_KEY" in complaint
    assert stub.stats()["requests"] == 1


def test_a_model_that_writes_no_layout_is_evaluated_and_cannot_teach(tmp_path: Path, stub: StubServer) -> None:
    stub.control(answer={"mode": "fixed", "text": "I would rather talk about the weather."})
    ended = dspy_actors("demo", *at(stub), cwd=tmp_path)
    bar, complaint = ended.err.splitlines()
    assert "96/96" in bar
    assert "score 0.0 %  96 errors" in bar
    assert "max_errors=10" in complaint
    assert "the answer has no fields" in complaint
    assert ended.code == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_job_at_once(tmp_path: Path, stub: StubServer, number: signal.Signals, code: int) -> None:
    stub.control(plan=[{"times": 20}, {"fault": "hang"}])
    with beginning("demo", "--json", *at(stub), cwd=tmp_path) as process:
        stub.wait("requests>=40", timeout=20)
        ended = end_of(process, number)
    assert (ended.code, ended.out, ended.err) == (code, "", "dspy-actors: stopped\n")
    assert list(tmp_path.iterdir()) == []
