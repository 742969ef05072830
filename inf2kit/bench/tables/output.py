"""The files of one measurement, in one folder."""

from __future__ import annotations

from pathlib import Path

from inf2kit.bench.tables.aggregate import aggregate
from inf2kit.bench.tables.render import csv_text, markdown, optimum_json
from inf2kit.bench.tables.samples import Measurement

RESULT = "tables.json"


def write(measurement: Measurement, folder: Path, *, charts: bool) -> list[Path]:
    """Write all files, the raw samples first.

    Args:
        measurement: The samples, all of them or as far as they go.
        folder: Where to write; it is made if it is missing.
        charts: Whether to draw charts, which needs the extra ``bench``.

    Returns:
        The files.
    """
    tables = aggregate(measurement)
    folder.mkdir(parents=True, exist_ok=True)
    measurement.write(folder / RESULT, {"tables": tables.to_dict()})
    texts = {
        "tables.md": markdown(measurement, tables),
        "tables.csv": csv_text(measurement, tables),
        "optimum-neuron.json": optimum_json(measurement, tables),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = [folder / RESULT, *(folder / name for name in texts)]
    if charts and measurement.samples:
        from inf2kit.bench.tables.figures import draw_charts

        files += draw_charts([measurement], folder)
    return files
