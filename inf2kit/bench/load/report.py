"""A run's report: raw samples first, then what was computed of them, as a versioned JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inf2kit import paths
from inf2kit.bench.files import problem
from inf2kit.bench.load.checks import Finding, check
from inf2kit.bench.load.metrics import METRICS, Statistic, Window, count_failures, measure
from inf2kit.bench.load.samples import Cell
from inf2kit.errors import Inf2KitError

_SCHEMA = "inf2kit.bench.load/1"


@dataclass(frozen=True)
class Report:
    """What a run measured.

    Attributes:
        endpoint: The EndpointName.
        where: Where calls went.
        machine: The machine that measured and, for a local endpoint, served too.
        transport: How calls were sent.
        workload: What was sent.
        slo: Limits in seconds, by name.
        seed: The seed of prompts, lengths and arrivals.
        began: When it began, in ISO 8601.
        version: The version of inf2kit.
        sampling: Where tokens were chosen: ``host``, ``device``, or empty where nothing tells.
        notices: What is simulated, or was changed about a request, by the answers themselves.
        cells: What was measured.
    """

    endpoint: str
    where: str
    machine: str
    transport: str
    workload: str
    slo: dict[str, float]
    seed: int
    began: str
    version: str
    notices: tuple[str, ...]
    cells: tuple[Cell, ...]
    sampling: str = ""

    @property
    def notice(self) -> str:
        """One sentence for every output: where it was measured and tokens were chosen, what is simulated."""
        sampling = (f"tokens chosen on the {self.sampling}",) if self.sampling else ()
        return "; ".join((f"measured from {self.machine}, {self.where}", *sampling, *self.notices))

    def measured(self) -> Iterator[tuple[Cell, dict[str, Statistic], list[Finding]]]:
        """Yield each cell with its metrics and what its checks found."""
        for cell in self.cells:
            yield cell, measure(cell, self.slo), check(cell)

    def to_json(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        values = {name: value for name, value in vars(self).items() if name != "cells"}
        return {
            "schema": _SCHEMA,
            **values,
            "formulas": {tag: f"{metric.formula} [{metric.unit}]" for tag, metric in METRICS.items()},
            "cells": [
                {
                    **cell.to_json(),
                    "label": str(cell.load),
                    "window": asdict(Window.of(cell)),
                    "failures": count_failures(Window.of(cell).counted(cell)),
                    "metrics": {tag: asdict(statistic) for tag, statistic in statistics.items()},
                    "checks": [asdict(finding) for finding in findings],
                }
                for cell, statistics, findings in self.measured()
            ],
        }

    def write(self, path: Path) -> None:
        """Write a JSON file at once, so that nobody reads half of it."""
        paths.replace_file(path, json.dumps(self.to_json(), separators=(",", ":")).encode())

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a JSON file. Everything but the samples is computed again.

        Raises:
            Inf2KitError: it is no report of a load benchmark.
        """
        try:
            values = json.loads(path.read_bytes())
            if values["schema"] != _SCHEMA:
                raise ValueError(f"its schema is {values['schema']!r}")
            values.setdefault("sampling", "")  # reports of earlier releases do not say
            fields = {name: values[name] for name in cls.__dataclass_fields__}
            fields["notices"] = tuple(fields["notices"])
            names = ("load", "samples", "began", "stop_s", "streamed", "client", "server", "interrupted")
            fields["cells"] = tuple(
                Cell.from_json({name: cell[name] for name in names}) for cell in fields["cells"]
            )
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Inf2KitError(
                f"{path} is no report of 'inf2kit bench load' ({problem(error)}); give a load.json that "
                "it wrote"
            ) from None
