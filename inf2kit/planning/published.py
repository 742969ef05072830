"""Published measurements of engines on inf2: ``catalog/published/engines.csv``.

Each line is a model's engine in one shape. The tables and charts of optimum-neuron's documentation time one
batch at a time: ``prefill_s`` is their encoding time by the rows of the batch, ``step_ms`` their time per
token with all rows live. Lines ``load`` are of its load benchmarks: a prefill is the time to the first token
of a single caller less a step, a step the gap between its tokens. Where the host samples, ``row_step_ms``
comes from the loaded run beside it, by the closed form.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.planning.times import ServiceTimes

_FILE = Path(catalog.__file__).parent / "published" / "engines.csv"
#: What all rows wait for after a prefill and a single caller does not notice, as a share of the prefill. On
#: devices 0.02 to 0.15 were measured; docs/planning.md has the errors with it and without.
STALL_SHARE = 0.1


@dataclass(frozen=True)
class PublishedEngine:
    """What somebody measured of one engine.

    Attributes:
        model: The model's name on the hub.
        cores: Cores of the engine.
        batch_size: Its rows.
        sequence_length: Tokens of a row.
        sampling: ``device``, ``host``, or empty where the source does not say.
        times: Its times; the stall is a share of the prefill.
        rows_measured: Live rows with which a step was measured.
        version: The version of optimum-neuron.
        date: The day or month.
        measured: How.
        source: The document.
    """

    model: str
    cores: int
    batch_size: int
    sequence_length: int
    sampling: str
    times: ServiceTimes
    rows_measured: int
    version: str
    date: str
    measured: str
    source: str

    def knows(self, sampling: str) -> bool:
        """Whether its step holds with all rows live, for an engine that samples there.

        A step with one row holds for all where the device samples: 0.017 ms more for each row were measured.
        Where the host samples, a loaded step is a multiple of it.
        """
        if self.sampling and self.sampling != sampling:
            return False
        is_loaded = self.rows_measured == self.batch_size or self.times.row_step_s > 0
        return is_loaded or sampling == "device"


def find(
    model: str, cores: int, batch_size: int, sequence_length: int, sampling: str
) -> PublishedEngine | None:
    """Return the newest measurement of a model of the same sizes in a shape, or None."""
    return newest(engines(), model, cores, batch_size, sequence_length, sampling)


def newest(
    candidates: Iterable[PublishedEngine],
    model: str,
    cores: int,
    batch_size: int,
    sequence_length: int,
    sampling: str,
) -> PublishedEngine | None:
    """Return the newest of some measurements that is of a model in a shape, or None.

    Where the sampling of a source is known, it comes before newer ones.
    """
    shape = (_sizes(model), cores, batch_size, sequence_length)
    matches = [
        engine
        for engine in candidates
        if (_sizes(engine.model), engine.cores, engine.batch_size, engine.sequence_length) == shape
        and engine.knows(sampling)
    ]
    return max(matches, key=lambda engine: (bool(engine.sampling), engine.date), default=None)


@functools.cache
def engines() -> tuple[PublishedEngine, ...]:
    """Return every published engine."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_parse(line) for line in csv.DictReader(file))


def _parse(line: dict[str, str]) -> PublishedEngine:
    prefill_s = tuple(map(float, line["prefill_s"].split()))
    times = ServiceTimes(
        tuple(map(int, line["input_tokens"].split())),
        prefill_s,
        float(line["step_ms"]) / 1000,
        float(line["row_step_ms"]) / 1000,
        STALL_SHARE * prefill_s[0],
    )
    names = ("cores", "batch_size", "sequence_length", "rows_measured")
    numbers = {name: int(line[name]) for name in names}
    texts = {name: line[name] for name in ("model", "sampling", "version", "date", "measured", "source")}
    return PublishedEngine(**texts, **numbers, times=times)  # type: ignore[arg-type]


def _sizes(model: str) -> object:
    """What a model's speed depends on: its sizes where the catalog has them, else its name."""
    return _known_sizes().get(_base_name(model), _base_name(model))


@functools.cache
def _known_sizes() -> dict[str, frozenset[tuple[str, Any]]]:
    """The sizes of the presets' models. Positions are no matter of speed; compiled rows are."""
    return {
        _base_name(name): frozenset(
            (key, value) for key, value in sizes.items() if key != "max_position_embeddings"
        )
        for name, sizes in catalog.models().items()
    }


def _base_name(model: str) -> str:
    """The model's name without its owner and its tuning, which do not change its speed."""
    name = model.rpartition("/")[2].lower().removeprefix("meta-")
    return re.sub(r"-(hf|chat|instruct)\b", "", name)
