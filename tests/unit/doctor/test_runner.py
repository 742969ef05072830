"""Running the checks: order, failures, and what hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from inf2kit import load_preset
from inf2kit.doctor import Finding, Status, Surroundings, examine
from inf2kit.doctor.checks import CHECKS, MACHINE, Check
from inf2kit.doctor.finding import NotCheckedError, ok, problem
from inf2kit.errors import PackageError

ROOT = Path(__file__).parents[3]
OFFLINE = Surroundings(offline=True)


def raises(error: Exception) -> Check:
    """A check that raises an exception."""

    def run(_: Surroundings) -> Iterator[Finding]:
        yield ok("so far")
        raise error

    return Check("it", MACHINE, run)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (NotCheckedError("no region"), Status.NOT_CHECKED, "no region"),
        (PackageError("no bucket; create it"), Status.NOT_CHECKED, "no bucket; create it"),
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetRole"),
            Status.NOT_CHECKED,
            "the check of it failed: no (AccessDenied); your credentials do not allow it",
        ),
        (
            ModuleNotFoundError("no", name="psutil"),
            Status.NOT_CHECKED,
            "it needs 'psutil', which is not installed",
        ),
        (KeyError("x"), Status.PROBLEM, "the check itself failed (KeyError: 'x')"),
    ],
)
def test_what_a_check_raises_becomes_its_line(error: Exception, status: Status, reason: str) -> None:
    report = examine(OFFLINE, checks=[raises(error), Check("other", MACHINE, lambda _: [ok("fine")])])
    first, second = report.findings
    assert (first.check, first.status, first.reason) == ("it", status, reason)
    assert second == Finding(Status.OK, "fine", check="other", group=MACHINE)


def test_a_check_that_hangs_is_given_up() -> None:
    released = threading.Event()

    def hang(_: Surroundings) -> Iterator[Finding]:
        released.wait()
        yield ok("late")

    running: list[list[str]] = []
    try:
        report = examine(OFFLINE, running.append, checks=[Check("slow", MACHINE, hang)], patience_s=0.3)
    finally:
        released.set()
    (finding,) = report.findings
    assert (finding.status, finding.reason) == (
        Status.NOT_CHECKED,
        "no answer within 0 s; try again, or with --offline",
    )
    assert running[0] == ["slow"]


def test_the_worst_finding_and_what_to_do_next() -> None:
    preset = load_preset("llama2-7b-budget")
    checks = [
        Check("a", MACHINE, lambda _: [ok("fine")]),
        Check("b", MACHINE, lambda _: [problem("broken", command="mend it")]),
    ]
    report = examine(Surroundings(preset=preset, offline=True), checks=checks)
    assert report.worst is Status.PROBLEM
    assert report.next_step == "run: mend it   then again: inf2kit doctor llama2-7b-budget"
    assert examine(OFFLINE, checks=checks[:1]).worst is Status.OK


def test_the_document_names_every_check() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    _, _, table = text.partition("### The checks")
    cells = [row.split("|")[1].strip() for row in table.splitlines() if row.startswith("|")]
    names = {name for cell in cells for name in cell.split(", ")}
    assert {check.name for check in CHECKS} <= names


def test_which_checks_fit() -> None:
    def groups(surroundings: Surroundings) -> set[str]:
        return {check.group for check in CHECKS if check.fits(surroundings)}

    assert groups(OFFLINE) == {"this machine", "dates"}
    assert groups(Surroundings()) == {"this machine", "dates", "AWS"}
    local = load_preset("smollm2-135m-local")
    assert groups(Surroundings(preset=local)) == {"this machine"}
    budget = load_preset("llama2-7b-budget")
    assert groups(Surroundings(preset=budget)) == {"this machine", "dates", "AWS", "Hugging Face hub"}
    assert groups(Surroundings(preset=budget, offline=True)) == {"this machine", "dates"}
