"""Which preset an endpoint serves, and what it runs on: what a calibration is of."""

from __future__ import annotations

from inf2kit.bench.load.calibrate import Subject
from inf2kit.bench.load.run import Run
from inf2kit.bench.machine import describe_processor
from inf2kit.bench.served import find_preset
from inf2kit.errors import Inf2KitError


async def find_subject(
    run: Run, preset: str | None, *, on_device_sampling: bool, engines: int | None
) -> Subject:
    """Find out what is calibrated.

    Args:
        run: The run, for its endpoint and its container's counters.
        preset: The preset's name or file; None for the one that a local endpoint was started with, or that
            gives an endpoint this name.
        on_device_sampling: Whether the device chooses the tokens, where the endpoint does not tell.
        engines: Engines behind the endpoint, those of all instances; None for those of one instance.

    Raises:
        Inf2KitError: it is not known which preset the endpoint serves.
    """
    name = run.endpoint.name
    known = find_preset(name, preset)
    if known is None:
        raise Inf2KitError(
            f"a calibration is of a preset, and none gives an endpoint the name {name!r}; say which one it "
            "serves: --preset NAME or --preset FILE.toml"
        )
    counters = await run.server_metrics() or {}
    in_container = int(counters.get("inf2kit_engines", 0)) or known.compute.data_parallel_size
    return Subject(
        known.name,
        int(counters.get("inf2kit_rows", 0)) // in_container or known.shapes.batch_size,
        known.shapes.sequence_length,
        engines or in_container,
        on_device_sampling or await run.find_sampling() == "device",
        describe_processor() if run.endpoint.is_local else known.compute.instance_type,
    )
