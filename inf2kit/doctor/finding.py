"""What a check has found, and the report of all checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Status(Enum):
    """How good a finding is; the worst comes last."""

    OK = "ok"
    NOT_CHECKED = "not checked"
    ADVICE = "advice"
    PROBLEM = "problem"

    @property
    def mark(self) -> str:
        """``[ok]``, ``[!]`` or ``[x]``."""
        return {"ok": "[ok]", "problem": "[x]"}.get(self.value, "[!]")

    @property
    def rank(self) -> int:
        """A number that grows as the status gets worse."""
        return list(Status).index(self)


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Attributes:
        status: How good it is.
        reason: What is so, in a phrase.
        hint: What follows from it; may be empty.
        command: The exact command that mends it; empty where none does.
        check: The check's name, which the runner fills in.
        group: The check's group, likewise.
    """

    status: Status
    reason: str
    hint: str = ""
    command: str = ""
    check: str = ""
    group: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {**asdict(self), "status": self.status.value}


@dataclass(frozen=True)
class Report:
    """The findings of all checks.

    Attributes:
        findings: In the order of the checks.
        subject: What was examined, in words.
        next_step: What to do next, as a sentence with a command.
    """

    findings: tuple[Finding, ...]
    subject: str
    next_step: str

    @property
    def worst(self) -> Status:
        """The worst status of all findings."""
        return max((finding.status for finding in self.findings), key=lambda status: status.rank)

    def count(self, status: Status) -> int:
        """Return how many findings have a status."""
        return sum(finding.status is status for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "subject": self.subject,
            "worst": self.worst.value,
            "next": self.next_step,
            "findings": [finding.to_dict() for finding in self.findings],
        }


class NotCheckedError(Exception):
    """A check cannot be made; its message says why.

    Args:
        reason: Why, in a phrase.
        command: The command after which it can be made, if there is one.
        hint: What else to try.
    """

    def __init__(self, reason: str, command: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.command, self.hint = command, hint


def ok(reason: str, hint: str = "", command: str = "") -> Finding:
    """Nothing is wrong."""
    return Finding(Status.OK, reason, hint, command)


def advice(reason: str, hint: str = "", command: str = "") -> Finding:
    """Something is worth a look, and nothing is in the way."""
    return Finding(Status.ADVICE, reason, hint, command)


def problem(reason: str, hint: str = "", command: str = "") -> Finding:
    """Something is in the way."""
    return Finding(Status.PROBLEM, reason, hint, command)
