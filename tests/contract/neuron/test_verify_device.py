"""``inf2kit verify-device`` with the container's optimum-neuron on the CPU double."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.neuron import run_module
from tests.helpers.servers import PATIENCE_S

VERSION = "0.4.1"


def test_all_questions_are_asked_and_the_double_answers_none(tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    process = run_module(
        VERSION,
        "inf2kit.cli",
        "verify-device",
        *("--tensor-parallel-size", "1", "--report", str(report_file)),
        timeout_s=2 * PATIENCE_S,  # its compilations take half a minute on a machine with nothing else to do
    )
    assert process.returncode == 0, process.stdout
    assert "simulated: there was no Neuron device" in process.stdout
    report = json.loads(report_file.read_text(encoding="utf-8"))
    answers = {answer["name"]: answer for answer in report["answers"]}
    failed = [name for name, answer in answers.items() if answer["passed"] is False]
    assert failed == [], answers
    unanswered = {name for name, answer in answers.items() if answer["error"]}
    assert unanswered == {"device-memory"}, "the double has no driver"
    assert answers["cores-held"]["result"]["loaded"] is True, "the double can be shared"
    assert len(report["open_questions"]) == len(answers)
