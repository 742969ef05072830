"""Reports: samples are saved as they are, and printed as one table for each section."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("build/bench")


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: What is measured.
        samples: The samples.
        unit: The unit of the samples.
        against: The name of what it is compared with.
        reference: The samples of that, each measured in the same round.
        note: A remark for readers.
        decimals: Decimals of the median in the table.
    """

    what: str
    samples: Sequence[float]
    unit: str
    against: str = ""
    reference: Sequence[float] = ()
    note: str = ""
    decimals: int = 1

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios of samples of the same round, or None without a reference."""
        if not self.reference:
            return None
        return statistics.median(a / b for a, b in zip(self.samples, self.reference, strict=True))

    def cells(self) -> tuple[str, str, str, str]:
        """Return the cells of the table: what, value, ratio and note."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x {self.against}"
        return self.what, f"{self.median:,.{self.decimals}f} {self.unit}", ratio, self.note


@dataclass
class Report:
    """Sections of rows, in the order in which they are measured.

    Attributes:
        sections: Rows by title.
        took_s: Duration of each section, by title.
    """

    sections: dict[str, list[Row]] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def section(self, title: str, began: float | None = None) -> Iterator[list[Row]]:
        """Collect the rows of a section, which are printed and saved at its end."""
        began = began or time.perf_counter()
        rows: list[Row] = []
        yield rows
        self.sections[title] = rows
        self.took_s[title] = time.perf_counter() - began
        print("\n".join(self._lines(title)), flush=True)
        self._save(title)

    def markdown(self, title: str) -> str:
        """Return a section as a Markdown table."""
        lines = ["| | median | ratio | |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.sections[title]]
        return "\n".join(lines)

    def _lines(self, title: str) -> list[str]:
        rows = [row.cells() for row in self.sections[title]]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["", f"{title} ({self.took_s[title]:.0f} s)"]
        for what, value, ratio, note in rows:
            line = f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {ratio:<{widths[2]}}  {note}"
            lines.append(line.rstrip())
        return lines

    def _save(self, title: str) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        rows = [vars(row) for row in self.sections[title]]
        name = "".join(letter if letter.isalnum() else "-" for letter in title.lower())
        value = {
            "title": title,
            "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
            "machine": machine(),
            "seconds": self.took_s[title],
            "rows": rows,
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(value, indent=1, default=list), encoding="utf-8")


def machine() -> str:
    """Return the processor, its cores, and the instructions that torch uses."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text(encoding="utf-8").splitlines() if "model name" in line]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0))
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {cores} cores, {capability}, torch {torch.__version__}"
