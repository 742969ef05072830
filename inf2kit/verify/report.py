"""The report of a device: what was asked, what it said, on what machine."""

from __future__ import annotations

import datetime as dt
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import inf2kit
from inf2kit.errors import CompileError
from inf2kit.verify.questions import questions

_PACKAGES = (
    "optimum-neuron",
    "neuronx-cc",
    "torch-neuronx",
    "neuronx-distributed",
    "libneuronxla",
    "torch",
    "transformers",
)


@dataclass
class Answer:
    """What a device said to one question.

    Attributes:
        name: Of the question.
        passed: Whether it is as it should be; None where there is no should.
        found: What was seen.
        error: Why it could not be asked.
    """

    name: str
    passed: bool | None = None
    found: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def state(self) -> str:
        """For people."""
        if self.error:
            return "not answered"
        return {True: "as it should be", False: "NOT as it should be", None: "seen"}[self.passed]


@dataclass
class Report:
    """All of it.

    Attributes:
        inf2kit: Its version.
        date: Of the day, UTC.
        machine: What it ran on.
        simulated: Whether a double stood in for the device, so that nothing is answered.
        answers: One for each question.
    """

    inf2kit: str
    date: str
    machine: dict[str, Any]
    simulated: bool
    answers: list[Answer]

    @classmethod
    def of(cls, answers: list[Answer]) -> Report:
        """A report of now and here."""
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        found = machine()
        simulated = any("double" in str(value) for value in found["versions"].values())
        return cls(inf2kit.__version__, today, found, simulated, answers)

    def open_questions(self) -> list[str]:
        """Names of the questions that this report does not answer."""
        answered = {each.name for each in self.answers if not each.error}
        return [name for name in questions() if self.simulated or name not in answered]

    def write(self, path: Path) -> None:
        """As JSON.

        Raises:
            CompileError: it cannot be written.
        """
        value = {**asdict(self), "open_questions": self.open_questions()}
        try:
            path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CompileError(
                f"{path} cannot be written: {error.strerror}; choose another --report"
            ) from None

    def rows(self) -> list[tuple[str, ...]]:
        """A table."""
        rows: list[tuple[str, ...]] = [("QUESTION", "STATE", "FOUND")]
        rows += [(each.name, each.state, each.error or _short(each.found)) for each in self.answers]
        return rows


def machine() -> dict[str, Any]:
    """The instance, its driver and the versions of what is installed."""
    product = Path("/sys/devices/virtual/dmi/id/product_name")
    driver = Path("/sys/module/neuron/version")
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "instance": product.read_text(encoding="utf-8").strip() if product.exists() else platform.machine(),
        "driver": driver.read_text(encoding="utf-8").strip() if driver.exists() else None,
        "runtime": _said("dpkg-query", "-W", "-f=${Version}", "aws-neuronx-runtime-lib"),
        "versions": versions,
        "python": platform.python_version(),
    }


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _short(found: Mapping[str, Any]) -> str:
    def number(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key}: {number(each)}" for key, each in list(value.items())[:8]) + "}"
        return str(value)

    return ", ".join(f"{key} {number(value)}" for key, value in found.items() if key != "passed")[:160]
