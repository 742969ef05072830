"""The estimate beside what others measured on a device: ``catalog/published/memory.csv``.

Each line is one core of an engine, in MiB, by the driver's categories: tensors, of which the source counts
the cache apart; the scratchpad, which the estimate has as activations; and code, rings, collectives and the
rest, which it has as runtime.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from inf2kit import catalog
from inf2kit.checkpoint import Architecture
from inf2kit.fit.memory import RUNTIME_ON_FIRST_CORE, MemoryEstimate, estimate_memory
from inf2kit.serving.shapes import StaticShapes

_FILE = Path(catalog.__file__).parent / "published" / "memory.csv"
_MIB = 2**20
#: What a core's memory consists of, as both the estimate and the file name it.
PARTS = ("weights", "kv_cache", "activations", "runtime", "together")
#: Headings of ``compare``.
COLUMNS = ("MODEL", "SHAPE", "CORE", "PART", "ESTIMATE", "PUBLISHED", "DIFFERENCE")


@dataclass(frozen=True)
class PublishedMemory:
    """What somebody measured on one core of an engine, or on each of several.

    Attributes:
        model: The model's name on the hub.
        cores: Cores of the engine.
        shapes: Its static shapes.
        dtype: The precision of its weights and cache.
        core: ``first`` or ``others``.
        mib: MiB by the names of ``PARTS``.
        date: The day.
        measured: How.
        source: The document.
    """

    model: str
    cores: int
    shapes: StaticShapes
    dtype: str
    core: str
    mib: dict[str, int]
    date: str
    measured: str
    source: str

    @property
    def estimate(self) -> MemoryEstimate:
        """What the formulas say of the same engine."""
        return estimate_memory(Architecture.find(self.model), self.shapes, self.cores, self.dtype)

    def estimated_mib(self) -> dict[str, float]:
        """Return the estimate of this core, by the names of ``PARTS``."""
        memory, is_first = self.estimate, self.core == "first"
        sizes = {
            "weights": memory.weights,
            "kv_cache": memory.kv_cache,
            "activations": memory.activations,
            "runtime": memory.runtime,
            "together": memory.first_core if is_first else memory.per_core,
        }
        if is_first:
            sizes["runtime"] += RUNTIME_ON_FIRST_CORE
            sizes["weights"] += memory.first_core_more - RUNTIME_ON_FIRST_CORE
        return {name: size / _MIB for name, size in sizes.items()}


@functools.cache
def measurements() -> tuple[PublishedMemory, ...]:
    """Return every published measurement."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_parse(line) for line in csv.DictReader(file))


def compare() -> list[tuple[str, ...]]:
    """Return the lines of a table with the headings ``COLUMNS``."""
    rows: list[tuple[str, ...]] = []
    for measurement in measurements():
        shapes, estimated = measurement.shapes, measurement.estimated_mib()
        engine = (
            measurement.model,
            f"{measurement.cores} cores, {shapes.batch_size} x {shapes.sequence_length}",
            measurement.core,
        )
        for part in PARTS:
            published = measurement.mib[part]
            difference = f"{100 * (estimated[part] / published - 1):+.1f} %"
            rows.append((*engine, part, f"{estimated[part]:.0f} MiB", f"{published} MiB", difference))
    return rows


def _parse(line: dict[str, str]) -> PublishedMemory:
    shapes = StaticShapes.resolve(int(line["batch_size"]), int(line["sequence_length"]))
    texts = {name: line[name] for name in ("model", "dtype", "core", "date", "measured", "source")}
    return PublishedMemory(
        **texts, cores=int(line["cores"]), shapes=shapes, mib={part: int(line[part]) for part in PARTS}
    )
