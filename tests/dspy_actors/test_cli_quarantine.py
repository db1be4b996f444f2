"""`dspy-actors quarantine`: on the file of a service that runs, that has ended, or that never was."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dspy_actors.errors import LMContentFilterError
from dspy_actors.quarantine.entry import Entry
from dspy_actors.quarantine.file import Filing, QuarantineFile
from dspy_actors.quarantine.names import hash_inputs
from dspy_actors.quarantine.preview import preview_of
from supervisors.clock import ManualClock
from supervisors.testing import wait_until
from tests.dspy_actors.command import dspy_actors, inside, write_rows
from tests.dspy_actors.programs import qa
from tests.dspy_actors.quarantining import Sick, filtered, kinds
from tests.dspy_actors.test_quarantine_file import polled, rows
from tests.dspy_actors.test_quarantine_words import an_entry

INPUTS = {"ticket": "There are two charges on my billing statement.", "n": 3}
FIRST = an_entry(
    id="aa11",
    program="triage",
    tenant="team-a",
    reason="parse",
    error="AdapterParseError",
    input_hash=(hash_inputs({"ticket": INPUTS["ticket"]}) or b"").hex(),
    until=4e9,
    preview=preview_of({"ticket": INPUTS["ticket"]}),
)
SECOND = an_entry(id="ab22", program="other", tenant="", reason="crash", error="ValueError", until=5.0, preview=())
PROGRAM = "ticket -> team: Literal['billing', 'shipping']"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two entries."""
    path = tmp_path / "quarantine.sqlite"
    file = QuarantineFile(path)
    connection = file.connect()
    file.exchange(connection, [Filing(FIRST, held=True), Filing(SECOND, held=True)], 0)
    connection.close()
    return path


def held(path: Path) -> list[Entry]:
    return [row.entry for row in rows(path) if row.held]


def test_a_list_has_a_line_an_entry(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    ended = inside(capsys, "quarantine", "list", "--file", path)
    head, first, second = ended.out.splitlines()
    assert (ended.code, head.split()) == (0, ["entry", "program", "tenant", "reason", "failed", "until", "input"])
    assert first == (
        "aa11   triage   team-a  parse (AdapterParseError)  3 calls  2096-10-02 07:06:40Z        "
        "ticket: str[46] 'There are two ch…'"
    )
    assert " ".join(second.split()) == "ab22 other - crash (ValueError) 3 calls 1970-01-01 00:00:05Z (due)"


@pytest.mark.parametrize(("option", "value", "found"), [("--program", "other", "ab22"), ("--tenant", "team-a", "aa11")])
def test_a_list_can_be_narrowed(
    capsys: pytest.CaptureFixture[str], path: Path, option: str, value: str, found: str
) -> None:
    ended = inside(capsys, "quarantine", "list", "--file", path, option, value, "--json")
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == [found]


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    inside(capsys, "quarantine", "release", "aa11", "ab22", "--file", path)
    assert inside(capsys, "quarantine", "list", "--file", path).out == "nothing is set aside\n"


def test_an_entry_is_shown_with_all_that_is_known(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    ended = inside(capsys, "quarantine", "show", "aa", "--file", path)
    assert ended.code == 0
    assert f"input hash  {FIRST.input_hash}" in ended.out
    assert "set aside   1 time in a row, until" in ended.out
    assert "failed      3 calls, from 1970-01-01 00:00:01Z to 1970-01-01 00:00:02Z" in ended.out
    as_json = inside(capsys, "quarantine", "show", "aa11", "--file", path, "--json")
    assert json.loads(as_json.out) == json.loads(json.dumps(FIRST.as_data()))


def test_released_entries_are_held_no_more(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    ended = inside(capsys, "quarantine", "release", "aa11", "--file", path)
    assert (ended.code, ended.out) == (0, "released aa11 of triage\n")
    assert held(path) == [SECOND]


def test_a_release_with_one_unknown_id_releases_none(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    ended = inside(capsys, "quarantine", "release", "aa11", "zz", "--file", path)
    assert "no entry has an id that begins with 'zz'" in ended.complaint
    assert held(path) == [FIRST, SECOND]


@pytest.mark.parametrize("command", ["show", "release"])
def test_an_ambiguous_id_is_refused(capsys: pytest.CaptureFixture[str], path: Path, command: str) -> None:
    assert (
        "2 entries have an id that begins with 'a'"
        in inside(capsys, "quarantine", command, "a", "--file", path).complaint
    )


def test_an_export_goes_to_a_file_or_to_standard_output(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "entries.jsonl"
    assert inside(capsys, "quarantine", "export", "--file", path, "--out", out).out == f"2 entries -> {out}\n"
    assert inside(capsys, "quarantine", "export", "--file", path).out == out.read_text()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["aa11", "ab22"]


def test_an_export_does_not_overwrite_the_file_it_reads(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    assert "is the file" in inside(capsys, "quarantine", "export", "--file", path, "--out", path).complaint


def replay(capsys: pytest.CaptureFixture[str], path: Path, data: Path, *more: str) -> tuple[int, str]:
    ended = inside(capsys, "quarantine", "replay", "aa11", PROGRAM, "--file", path, "--data", data, *more)
    return ended.code, ended.out or ended.complaint


def test_a_replay_finds_its_row_and_releases_the_entry(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    """Rows have more columns than the program was given, and there are others."""
    data = write_rows(tmp_path / "rows.jsonl", [{"ticket": "another"}, {}, INPUTS])
    assert replay(capsys, path, data, "--lm", "embedded/knn") == (0, "released aa11 of triage: the call succeeded\n")
    assert held(path) == [SECOND]


def test_a_replay_that_fails_keeps_the_entry(path: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [INPUTS])
    (tmp_path / "failing_program.py").write_text(
        "from dspy_actors import Module\n"
        "class Fails(Module):\n"
        "    def forward(self, ticket):\n"
        "        raise ValueError('still broken')\n"
    )
    ended = dspy_actors(
        "quarantine", "replay", "aa11", "failing_program:Fails", "--file", path, "--data", data, cwd=tmp_path
    )
    assert (ended.code, ended.out) == (1, "kept aa11 of triage: ValueError: still broken\n")
    assert held(path) == [FIRST, SECOND]


def test_a_replay_of_a_program_without_a_model_wants_one_named(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    """An answer of some other model would release what the service's own model still fails at."""
    code, said = replay(capsys, path, write_rows(tmp_path / "rows.jsonl", [INPUTS]))
    assert code == 2
    assert "brings no model of its own: name the one that the service asks, --lm PROVIDER/MODEL" in said
    assert held(path) == [FIRST, SECOND]


def test_a_replay_of_a_program_with_a_model_of_its_own_wants_none_named(path: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [INPUTS])
    (tmp_path / "own_model.py").write_text(
        f"from dspy_actors import LM, Predict\nprogram = Predict({PROGRAM!r}, lm=LM('embedded/knn'))\n"
    )
    ended = dspy_actors(
        "quarantine", "replay", "aa11", "own_model:program", "--file", path, "--data", data, cwd=tmp_path
    )
    assert (ended.code, ended.out) == (0, "released aa11 of triage: the call succeeded\n")


@pytest.mark.parametrize(
    "option", [("--base-url", "http://127.0.0.1:9/v1"), ("--temperature", "0"), ("--max-tokens", "9")]
)
def test_a_replay_with_options_of_a_model_that_is_not_named_is_refused(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    code, said = replay(capsys, path, write_rows(tmp_path / "rows.jsonl", [INPUTS]), *option)
    assert (code, said.splitlines()) == (2, [f"{option[0]} goes with --lm PROVIDER/MODEL, which is not given"])
    assert held(path) == [FIRST, SECOND]


def test_a_replay_without_its_row_is_refused(capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"ticket": "another"}])
    code, said = replay(capsys, path, data, "--lm", "embedded/knn")
    assert code == 2
    assert "no row is the input of entry aa11, which has the fields ticket" in said
    assert held(path) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("model", "why"), [("openai/m", "needs a key"), ("local/m --base-url http://127.0.0.1:9/v1", "no connection")]
)
def test_a_replay_that_finds_no_model_is_refused(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path, model: str, why: str
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [INPUTS])
    code, said = replay(capsys, path, data, "--lm", *model.split())
    assert code == 2
    assert why in said
    assert held(path) == [FIRST, SECOND]


@pytest.mark.parametrize("what", ["nowhere", "text", "database", "broken", "locked"])
def test_a_file_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, path: Path, what: str
) -> None:
    holder: sqlite3.Connection | None = None
    if what == "nowhere":
        path = tmp_path / "other.sqlite"
    if what == "text":
        path.write_text("question\n")
    if what == "database":
        path = tmp_path / "mine.sqlite"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE mine (x)")
        connection.close()
    if what == "broken":
        path.write_bytes(path.read_bytes()[:100] + b"rubbish" * 900)
    if what == "locked":
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
    said = inside(capsys, "quarantine", "list", "--file", path).complaint
    if holder is not None:
        holder.close()
    expected = {
        "nowhere": "there is no such file",
        "text": "is no quarantine: it is some other file",
        "database": "is no quarantine: it is some other SQLite file",
        "broken": "is broken",
        "locked": "cannot be used now: database is locked",
    }
    assert expected[what] in said


def test_a_running_service_notices_a_release_at_its_next_look(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, clock, sick = tmp_path / "q.sqlite", ManualClock(), Sick(bad=filtered())
    with sick.runtime(clock, path=path) as rt:
        program = rt.start(qa(), name="qa")
        kinds(program, "bad", 3)
        wait_until(lambda: len(held(path)) == 1)
        listed = inside(capsys, "quarantine", "list", "--file", path, "--json")
        (entry,) = rt.quarantine.list()
        assert json.loads(listed.out)["id"] == entry.id
        inside(capsys, "quarantine", "release", entry.id, "--file", path)
        polled(rt)
        assert kinds(program, "bad") == [LMContentFilterError.kind]
