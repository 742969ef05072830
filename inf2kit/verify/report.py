"""The questions about devices, and the report that answers them: what was measured, on which machine."""

from __future__ import annotations

import datetime as dt
import functools
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import inf2kit
from inf2kit import toml
from inf2kit.errors import CompileError

_PACKAGES = (
    "optimum-neuron",
    "neuronx-cc",
    "torch-neuronx",
    "neuronx-distributed",
    "libneuronxla",
    "torch",
    "transformers",
)
_MAX_SUMMARY_LENGTH = 160
_MAX_SUMMARY_ITEMS = 8


@functools.cache
def load_questions() -> Mapping[str, str]:
    """Return what is not known until a device answers: each question by its name."""
    values = toml.read(Path(__file__).with_name("questions.toml"))
    return MappingProxyType({name: str(value["question"]) for name, value in values.items()})


@dataclass
class Answer:
    """A device's answer to one question.

    Attributes:
        name: The question's name.
        passed: Whether the result is as expected; None where nothing is expected.
        result: What was measured or observed.
        error: Why the question could not be answered.
    """

    name: str
    passed: bool | None = None
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def state(self) -> str:
        """The outcome in words."""
        if self.error:
            return "not answered"
        return {True: "as it should be", False: "NOT as it should be", None: "measured"}[self.passed]


@dataclass
class Report:
    """The answers of one machine.

    Attributes:
        inf2kit: The version of inf2kit.
        date: The day in UTC, such as 2026-11-30.
        machine: The instance and its versions.
        simulated: Whether a double stood in for the device, so that nothing is answered.
        answers: One for each question.
    """

    inf2kit: str
    date: str
    machine: dict[str, Any]
    simulated: bool
    answers: list[Answer]

    @classmethod
    def from_answers(cls, answers: list[Answer]) -> Report:
        """Make the report of today and of this machine."""
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        machine = describe_machine()
        simulated = any("double" in str(version) for version in machine["versions"].values())
        return cls(inf2kit.__version__, today, machine, simulated, answers)

    def open_questions(self) -> list[str]:
        """Return the names of the questions that this report does not answer."""
        answered = {answer.name for answer in self.answers if not answer.error}
        return [name for name in load_questions() if self.simulated or name not in answered]

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            CompileError: the file cannot be written.
        """
        value = {**asdict(self), "open_questions": self.open_questions()}
        try:
            path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CompileError(
                f"{path} cannot be written: {error.strerror}; choose another --report"
            ) from None

    def rows(self) -> list[tuple[str, ...]]:
        """Return the answers as the rows of a table, its heading first."""
        rows: list[tuple[str, ...]] = [("QUESTION", "STATE", "RESULT")]
        rows += [
            (answer.name, answer.state, answer.error or _summarise(answer.result)) for answer in self.answers
        ]
        return rows


def describe_machine() -> dict[str, Any]:
    """Return the instance's type, its driver and runtime, and the versions of the installed packages."""
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
        "runtime": _output_of("dpkg-query", "-W", "-f=${Version}", "aws-neuronx-runtime-lib"),
        "versions": versions,
        "python": platform.python_version(),
    }


def _output_of(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _summarise(result: Mapping[str, Any]) -> str:
    """Return a result in one line of a table."""

    def format_value(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}"
        if isinstance(value, dict):
            items = list(value.items())[:_MAX_SUMMARY_ITEMS]
            return "{" + ", ".join(f"{key}: {format_value(item)}" for key, item in items) + "}"
        return str(value)

    values = (f"{key} {format_value(value)}" for key, value in result.items() if key != "passed")
    return ", ".join(values)[:_MAX_SUMMARY_LENGTH]
