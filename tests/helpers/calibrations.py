"""A calibration, as a load benchmark writes one."""

from __future__ import annotations

import datetime as dt

from inf2kit.catalog.calibration import Calibration

CALIBRATION = Calibration(
    preset="llama2-7b-throughput",
    batch_size=4,
    sequence_length=2048,
    engines=1,
    on_device_sampling=False,
    prefill_tokens=(256, 768),
    prefill_s=(0.25, 0.75),
    step_s=0.007,
    row_step_s=0.0001,
    stall_s=0.02,
    new_tokens=128.5,
    new_tokens_deviation=3.25,
    round_trip_s=0.001,
    measured=dt.date(2026, 11, 26),
    machine="ml.inf2.48xlarge",
    notice='simulated: "quoted"',
)
