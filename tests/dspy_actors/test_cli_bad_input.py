"""What bad input gets on the command line: one line that names the thing and the remedy, exit code 2, no file."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dspy_actors.modules.predict import Predict
from tests.dspy_actors.command import Ended, dspy_actors, inside, tickets
from tests.server.client import StubServer

Run = Callable[..., Ended]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """The working directory, with three good rows in it."""
    tickets(tmp_path / "rows.jsonl", 3)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`dspy-actors run PROGRAM OPTIONS` on good rows, unless an option says otherwise; in this process, for speed."""

    def command(program: str = "ticket -> category", *options: object, **files: object) -> Ended:
        named = {"data": "rows.jsonl", "out": "out.jsonl", **files}
        arguments = ["run", program, *options, *(text for k, v in named.items() for text in (f"--{k}", v))]
        return inside(capsys, *arguments)

    return command


@pytest.fixture
def nobody() -> Iterator[str]:
    """A base URL at which connections are refused: its port is taken and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def left(here: Path) -> list[str]:
    """The files of the directory beside the rows."""
    return sorted(name for name in os.listdir(here) if not name.startswith("rows."))


BAD_ROWS = {
    "not JSON": (b'{"ticket": "a"}\n\n{oops\n', "rows.jsonl, line 3: not JSON ("),
    "no object": (b'{"ticket": "a"}\n[1]\n', "rows.jsonl, line 2: a list, where one JSON object a line is expected"),
    "no UTF-8": (b'{"ticket": "a"}\n' * 900 + b'{"ticket": "\xff"}\n', "rows.jsonl, line 901: not UTF-8 text ("),
    "UTF-16": ('{"ticket": "a"}\n'.encode("utf-16"), "rows.jsonl, line 1: not UTF-8 text ("),
    "a NUL": (b'{"ticket": "a"}\n{"ticket": "\0"}\n', "rows.jsonl, line 2: not JSON ("),
    "NaN": (b'{"ticket": NaN}\n', "rows.jsonl, line 1: not JSON (NaN is no JSON value, write null)"),
    "a pit of brackets": (b"[" * 100_000 + b"\n", "rows.jsonl, line 1: not JSON (nested too deeply)"),
    "a number without end": (b'{"ticket": ' + b"1" * 5000 + b"}\n", "rows.jsonl, line 1: not JSON ("),
    "cut off": (b'{"ticket": "a"}\n{"ticket": "b', "rows.jsonl, line 2: not JSON ("),
    "no rows": (b"\n\n", "rows.jsonl: there are no rows in it"),
}

BAD_CSV = {
    "a field too few": (b"ticket,id\na,1\nb\n", "rows.csv, line 3: it does not have the header's 2 columns"),
    "a field too many": (b"ticket,id\r\na,1,2\r\n", "rows.csv, line 2: it does not have the header's 2 columns"),
    "an open quote": (b'ticket,id\na,1\n"b,2\nc,3\n', "rows.csv, line 3: not CSV ("),
    "a name twice": (b"ticket,ticket\na,b\n", "rows.csv: the header names a column twice: ticket, ticket"),
    "no UTF-8": ("ticket\nä\nb\n".encode("latin-1"), "rows.csv, line 2: not UTF-8 text ("),
    "only a header": (b"ticket,id\n", "rows.csv: there are no rows in it"),
    "nothing": (b"", "rows.csv: there are no rows in it"),
    "other separators": (b"ticket;id\na;1\n", "rows.csv, row 1: there is no column 'ticket', which the program needs"),
}


@pytest.mark.parametrize(("content", "complaint"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_an_unreadable_jsonl_row_is_named_by_its_line(here: Path, run: Run, content: bytes, complaint: str) -> None:
    (here / "rows.jsonl").write_bytes(content)
    assert run().complaint.startswith(complaint)
    assert left(here) == []


@pytest.mark.parametrize(("content", "complaint"), BAD_CSV.values(), ids=BAD_CSV)
def test_an_unreadable_csv_row_is_named_by_its_line(here: Path, run: Run, content: bytes, complaint: str) -> None:
    (here / "rows.csv").write_bytes(content)
    assert run(data="rows.csv").complaint.startswith(complaint)
    assert left(here) == []


def test_a_field_of_a_megabyte_is_no_bad_csv(here: Path, run: Run) -> None:
    (here / "rows.csv").write_text("ticket,id\n" + "word " * 200_000 + ",1\n")
    assert run("id -> category", data="rows.csv").code == 0


def test_a_missing_file_is_named(here: Path, run: Run) -> None:
    assert run(data="rovs.jsonl").complaint == "rovs.jsonl: there is no such file"
    assert left(here) == []


def test_a_file_of_another_kind_is_named(here: Path, run: Run) -> None:
    (here / "rows.xlsx").write_bytes(b"PK")
    wanted = "rows.xlsx: rows are read from .jsonl or .csv files; rename or convert it"
    assert run(data="rows.xlsx").complaint == wanted


def test_a_directory_and_a_pipe_are_no_missing_files(here: Path, run: Run) -> None:
    os.mkfifo(here / "rows.pipe.jsonl")
    assert run(data=".").complaint.startswith(".: it is a directory")
    assert run(data="rows.pipe.jsonl").complaint.startswith("rows.pipe.jsonl: it is no regular file")


def test_an_unknown_column_is_named_with_those_there_are(here: Path, run: Run) -> None:
    wanted = "rows.jsonl, row 1: there is no column 'question', which the program needs; it has ticket, id"
    assert run("question -> answer").complaint == wanted
    assert left(here) == []


SIGNATURES = {
    "ticket -> -> category": "a signature has one arrow",
    "ticket -> category,, urgency": "cannot read the fields",
    "ticket -> category: colour": "field 'category': type 'colour' is unknown",
    "ticket -> ticket": "field 'ticket' comes twice",
    "ticket -> ": "the signature 'ticket -> ' has no output; write 'question -> answer'",
    " -> category": "the signature ' -> category' has no input; write 'question -> answer'",
    "ticket": "'ticket' is no program: write a signature ('question -> answer')",
    "": "'' is no program: write a signature",
    ".:x": "'.:x' is no program: write a signature",
}


@pytest.mark.parametrize(("program", "complaint"), SIGNATURES.items())
def test_a_program_that_does_not_parse_is_named(here: Path, run: Run, program: str, complaint: str) -> None:
    assert complaint in run(program).complaint
    assert left(here) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{oops", "saved.json cannot be read as JSON"), ("[]", "saved.json holds list"), ("{}", "saved.json was saved")],
)
def test_a_saved_program_that_does_not_load_is_named(here: Path, run: Run, content: str, complaint: str) -> None:
    (here / "saved.json").write_text(content)
    assert run("saved.json", "--signature", "ticket -> category").complaint.startswith(complaint)


def test_a_saved_program_needs_its_file_and_its_signature(here: Path, run: Run) -> None:
    assert run("saved.json").complaint == "saved.json: there is no such file"
    Predict("ticket -> category").save(here / "saved.json")
    assert "add --signature 'question -> answer'" in run("saved.json").complaint


def test_a_signature_for_a_program_that_has_its_own_is_refused(here: Path, run: Run) -> None:
    assert "leave it out" in run("ticket -> category", "--signature", "a -> b").complaint


MODULES = {
    "nowhere:Program": "No module named 'nowhere'; run the command where it lies, or install it",
    "theirs:Missing": "the module 'theirs' has no 'Missing'",
    "theirs:number": "is a int; name a Module",
    "theirs:fails": "fails() raised KeyError: 'first second'",
    "broken:Program": "importing broken raised SyntaxError: '(' was never closed",
}


@pytest.mark.parametrize(("program", "complaint"), MODULES.items())
def test_a_module_that_holds_no_program_is_named(here: Path, program: str, complaint: str) -> None:
    (here / "theirs.py").write_text(
        "number = 3\n\ndef fails():\n    raise KeyError('first\\nsecond'.replace('\\n', ' '))\n"
    )
    (here / "broken.py").write_text("x = (\n")
    ended = dspy_actors("run", program, "--data", "rows.jsonl", "--out", "out.jsonl", cwd=here)
    assert complaint in ended.complaint
    assert "out.jsonl" not in left(here)


@pytest.mark.parametrize(
    ("lm", "complaint"),
    [
        ("wonder/model", "provider 'wonder' is not known; known: anthropic, embedded, local, openai"),
        ("gpt-4o", "write the provider before the model"),
        ("embedded/gpt", "there is embedded/knn"),
    ],
)
def test_an_unknown_model_is_named_with_those_there_are(here: Path, run: Run, lm: str, complaint: str) -> None:
    assert complaint in run("ticket -> category", "--lm", lm).complaint
    assert left(here) == []


def test_a_base_url_without_its_model_is_refused(here: Path, run: Run, nobody: str) -> None:
    assert "goes with --lm openai/MODEL" in run("ticket -> category", "--base-url", nobody).complaint


def test_a_base_url_that_is_none_is_named(here: Path, run: Run) -> None:
    options = ("--lm", "openai/stub", "--base-url", "localhost:8000/v1")
    assert "'localhost:8000/v1' is no http(s) URL" in run("ticket -> category", *options).complaint


def test_without_a_key_the_line_says_where_to_put_one(here: Path) -> None:
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--lm", "openai/gpt-4o-mini")
    complaint = dspy_actors("run", "ticket -> category", *arguments, cwd=here).complaint
    assert "set OPENAI_API_KEY" in complaint
    assert left(here) == []


def test_a_wrong_key_is_refused_by_its_server_and_never_shown(here: Path, stub: StubServer) -> None:
    stub.control(keys=["the right one"])
    arguments = ("--data", "rows.jsonl", "--out", "out.jsonl", "--lm", "openai/stub", "--base-url", stub.base_url)
    complaint = dspy_actors("run", "ticket -> category", *arguments, cwd=here, OPENAI_API_KEY="sk-wrong").complaint
    assert "Incorrect API key" in complaint
    assert "check the key in OPENAI_API_KEY" in complaint
    assert "sk-wrong" not in complaint
    assert left(here) == []


def test_a_server_that_is_not_there_is_named(here: Path, run: Run, nobody: str) -> None:
    complaint = run("ticket -> category", "--lm", "openai/stub", "--base-url", nobody).postponement
    assert nobody in complaint
    assert "check --base-url and that the server is running" in complaint
    assert left(here) == []


def test_a_server_that_is_no_model_is_named(here: Path, run: Run, stub: StubServer) -> None:
    complaint = run("ticket -> category", "--lm", "openai/stub", "--base-url", stub.at("html")).complaint
    assert "check --base-url: it should end in /v1" in complaint
    assert left(here) == []


def test_a_model_that_the_server_does_not_have_is_named(here: Path, run: Run, stub: StubServer) -> None:
    stub.control(models=["this-one"])
    complaint = run("ticket -> category", "--lm", "openai/that-one", "--base-url", stub.base_url).complaint
    assert "that-one" in complaint
    assert "check the model's name in --lm" in complaint
    assert left(here) == []


def test_a_server_that_is_not_there_is_found_although_the_first_rows_fail_before_it(
    here: Path, run: Run, nobody: str
) -> None:
    (here / "rows.jsonl").write_text('{"n": "x"}\n{"n": "y"}\n{"n": 3}\n')
    complaint = run("n: int -> category", "--lm", "openai/stub", "--base-url", nobody).postponement
    assert nobody in complaint
    assert left(here) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("hang", "deadline"),
        ("status=429,retry_after=600", "lm_rate_limit"),
        ("status=400", "lm_invalid_request"),
        ("text=nonsense", "parse"),
    ],
)
def test_rows_that_a_server_answers_badly_or_late_are_all_written_and_exit_with_1(
    here: Path, run: Run, stub: StubServer, fault: str, kind: str
) -> None:
    ended = run("ticket -> category", "--lm", "openai/stub", "--base-url", stub.at(fault), "--deadline", "2")
    assert ended.code == 1
    lines = (here / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["error"]["kind"] for line in lines] == [kind] * len(lines)


@pytest.mark.parametrize("fault", ["html", "malformed", "empty", "no_choices", "status=501", "status=404"])
def test_a_server_that_speaks_something_else_ends_with_exit_code_2(
    here: Path, run: Run, stub: StubServer, fault: str
) -> None:
    assert run("ticket -> category", "--lm", "openai/stub", "--base-url", stub.at(fault)).code == 2
    assert left(here) == []


@pytest.mark.parametrize("fault", ["status=500", "status=503", "drop"])
def test_a_server_that_fails_as_the_first_rows_ask_it_ends_with_exit_code_75(
    here: Path, run: Run, stub: StubServer, fault: str
) -> None:
    """A nightly job is to try again later, and to wake nobody: nothing is wrong with its command."""
    ended = run("ticket -> category", "--lm", "openai/stub", "--base-url", stub.at(fault))
    assert ended.postponement.startswith("the model cannot be asked now: ")
    assert left(here) == []


def test_an_answer_that_is_none_says_more_than_a_failure_beside_it(here: Path, run: Run, stub: StubServer) -> None:
    stub.control(plan=[{"times": 1, "fault": "html"}, {"fault": "status=500"}])
    complaint = run("ticket -> category", "--concurrency", "1", "--lm", "openai/stub", "--base-url", stub.base_url)
    assert "check --base-url: it should end in /v1" in complaint.complaint


def test_rows_that_all_fail_before_the_model_are_all_written_and_exit_with_1(here: Path, run: Run) -> None:
    (here / "rows.jsonl").write_text('{"n": "x"}\n{"n": "y"}\n')
    assert run("n: int -> category").code == 1
    assert (here / "out.jsonl").read_text().count('"kind": "input"') == 2


def test_the_data_file_is_not_overwritten(here: Path, run: Run) -> None:
    before = (here / "rows.jsonl").read_bytes()
    os.link(here / "rows.jsonl", here / "rows.too.jsonl")
    assert "name another file" in run(out="./rows.jsonl").complaint
    assert "name another file" in run(out="rows.too.jsonl").complaint
    assert (here / "rows.jsonl").read_bytes() == before


def test_the_saved_program_is_not_overwritten(here: Path, run: Run) -> None:
    Predict("ticket -> category").save(here / "saved.json")
    before = (here / "saved.json").read_bytes()
    assert "name another file" in run("saved.json", "--signature", "ticket -> category", out="saved.json").complaint
    assert (here / "saved.json").read_bytes() == before


@pytest.mark.parametrize(("out", "why"), [("no/out.jsonl", "its directory does not exist"), (".", "it is a directory")])
def test_an_out_that_cannot_be_a_file_is_named(here: Path, run: Run, out: str, why: str) -> None:
    assert run(out=out).complaint == f"--out {out}: {why}; name a file"


def test_a_full_disk_is_named(here: Path, run: Run) -> None:
    assert run(out="/dev/full").complaint.startswith("--out /dev/full cannot be written: No space left on device")


def test_an_earlier_result_file_survives_a_run_that_does_not_begin(here: Path, run: Run, nobody: str) -> None:
    (here / "out.jsonl").write_text("precious\n")
    run("ticket -> category", "--overwrite", "--lm", "openai/stub", "--base-url", nobody)
    assert (here / "out.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["runn"],
        ["run"],
        ["run", "a -> b"],
        ["demo", "--concurrency", "0"],
        ["run", "a -> b", "--limit", "no"],
        ["--no"],
    ],
)
def test_wrong_usage_ends_with_exit_code_2_and_a_hint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ended = inside(capsys, *arguments)
    assert ended.code == 2
    assert "Error: " in ended.err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "-h"], ["demo", "--help"], ["--version"]])
def test_help_ends_with_exit_code_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ended = inside(capsys, *arguments)
    assert ended.code == 0
    assert "dspy-actors" in ended.out


def test_a_column_that_an_embedder_needs_is_missed_before_anything_is_written(here: Path, run: Run) -> None:
    code = "from dspy_actors import Embedder\nprogram = Embedder('openai/m', api_key='k')\n"
    (here / "own_embedder.py").write_text(code)
    ended = run("own_embedder:program")
    assert (ended.code, "out.jsonl" in left(here)) == (2, False)
    assert "rows.jsonl, row 1: there is no column 'texts', which the program needs" in ended.err
