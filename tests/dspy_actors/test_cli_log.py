"""What the commands do with the log: their own lines left out, and the application's log as it set it up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog

from dspy_actors.cli.unreported import is_outage, unreported
from supervisors.reports import logger
from tests.dspy_actors.command import dspy_actors, results, tickets

APPLICATION = """
import logging
import structlog
from dspy_actors import Module, Prediction

logging.basicConfig(level=logging.INFO, format="%(message)s")
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.JSONRenderer(),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
log = structlog.get_logger("mine")


class Telling(Module):
    def forward(self, ticket):
        log.info("asked", ticket=ticket)
        return Prediction(category="ok")
"""


def test_a_program_logs_in_a_run_as_its_application_set_it_up(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    tickets(tmp_path / "rows.jsonl", 1)
    done = dspy_actors("run", "app:Telling", "--data", "rows.jsonl", "--out", "out.jsonl", cwd=tmp_path)
    [line] = results(tmp_path / "out.jsonl")
    assert line["outputs"] == {"category": "ok"}
    [told] = [json.loads(each) for each in done.err.splitlines() if each.startswith("{")]
    assert (told["logger"], told["event"]) == ("mine", "asked")


def test_a_line_that_the_command_tells_itself_is_left_out_of_the_log_of_an_application() -> None:
    seen = structlog.testing.LogCapture()
    structlog.configure(processors=[seen])
    with unreported(is_outage):
        logger("dspy_actors").warning("breaker.opened")
        logger("dspy_actors").warning("another")
    assert [entry["event"] for entry in seen.entries] == ["another"]


def test_the_log_is_as_the_application_set_it_up_after_the_command() -> None:
    seen = structlog.testing.LogCapture()
    structlog.configure(processors=[seen])
    with unreported(is_outage):
        pass
    logger("dspy_actors").warning("breaker.opened")
    assert [entry["event"] for entry in seen.entries] == ["breaker.opened"]


def test_a_log_that_nobody_set_up_goes_to_standard_error_without_those_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with unreported(is_outage):
        logger("dspy_actors").warning("breaker.opened")
        logger("dspy_actors").warning("another")
    out, err = capsys.readouterr()
    assert (out, "breaker.opened" in err, "another" in err, structlog.is_configured()) == ("", False, True, False)
