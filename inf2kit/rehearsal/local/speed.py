"""An endpoint of made-up tokens that takes the time of a real one: the variables of the simulated backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inf2kit.catalog.calibration import Calibration
from inf2kit.catalog.tables import INPUT_TOKENS, LENGTHS, PublishedTables, published_tables
from inf2kit.errors import LocalEndpointError
from inf2kit.presets import Preset
from inf2kit.serving.variables import SIMULATED_PREFIX

#: The speed of the published tables; any other is a file.
PUBLISHED = "published"


def speed_variables(speed: str, preset: Preset) -> dict[str, str]:
    """Return the environment of a container whose simulated backend has a speed.

    Args:
        speed: ``published``, or the path of a calibration that a load benchmark wrote.
        preset: The preset that is started.

    Raises:
        LocalEndpointError: nothing was published of this preset.
        Inf2KitError: the file is no calibration.
    """
    if speed == PUBLISHED:
        tables = published_tables().get(preset.name)
        if tables is None:
            raise LocalEndpointError(
                f"the published tables have no preset {preset.name!r}, only "
                f"{', '.join(sorted(published_tables()))}; give the file of a calibration as --speed"
            )
        seconds = dict(_published(tables, preset.shapes.batch_size))
    else:
        seconds = dict(_calibrated(Calibration.read(Path(speed))))
    variables = {f"{SIMULATED_PREFIX}{name}_SECONDS": f"{value:.9f}" for name, value in seconds.items()}
    return {"INF2KIT_BACKEND": "simulated", **variables}


def _published(tables: PublishedTables, rows: int) -> Iterator[tuple[str, float]]:
    """The published times as those of one prompt and of one step.

    Encoding was published of the whole batch, whose prompts are prefilled one by one here. So the last row
    begins ``rows - 1`` steps after the first one, and a call has that many steps more.
    """
    for length, encoding_s in zip(LENGTHS, tables.encoding_s, strict=True):
        yield f"PREFILL_{length}", encoding_s / rows
    tokens, elapsed_s = 1, tables.encoding_s[0]
    for length, end_to_end_s in zip(LENGTHS, tables.unrounded_end_to_end_s(rows), strict=True):
        step_s = (end_to_end_s - elapsed_s) / (length - tokens + rows - 1)
        # The step that gives the second token finds the prompt alone in its row.
        yield ("STEP" if tokens == 1 else f"STEP_{INPUT_TOKENS + tokens - 1}"), step_s
        elapsed_s += (length - tokens) * step_s
        tokens = length


def _calibrated(calibration: Calibration) -> Iterator[tuple[str, float]]:
    for length, prefill_s in zip(calibration.prefill_tokens, calibration.prefill_s, strict=True):
        yield f"PREFILL_{length}", prefill_s
    yield "STEP", calibration.step_s
    yield "ROW_STEP", calibration.row_step_s
    yield "STALL", calibration.stall_s
