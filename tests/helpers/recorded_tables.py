"""Samples of a preset with published tables, as if a device had given its very figures."""

from __future__ import annotations

from inf2kit.bench.tables.protocol import PROTOCOL
from inf2kit.bench.tables.samples import Measurement, Sample
from inf2kit.catalog.tables import INPUT_TOKENS, LENGTHS, published_tables

ROWS = 4
PRESET = "llama2-7b-throughput"


def published_s(input_tokens: int, new_tokens: int) -> float:
    tables = published_tables()[PRESET]
    if new_tokens == 1:
        return tables.encoding_s[LENGTHS.index(input_tokens)]
    assert input_tokens == INPUT_TOKENS
    return tables.end_to_end_s[LENGTHS.index(new_tokens)]


def sample(input_tokens: int, new_tokens: int, run: int = 1, **changed: object) -> Sample:
    values: dict[str, object] = {
        "latency_s": published_s(input_tokens, new_tokens),
        "counted_input_tokens": (input_tokens,) * ROWS,
        "counted_new_tokens": (new_tokens,) * ROWS,
        "finish_reasons": ("length",) * ROWS,
    }
    return Sample(input_tokens, new_tokens, run, **(values | changed))  # type: ignore[arg-type]


def measurement(samples: list[Sample] | None = None, **changed: object) -> Measurement:
    values: dict[str, object] = {
        "name": "an-endpoint",
        "preset": PRESET,
        "batch_size": ROWS,
        "sequence_length": 2048,
        "max_context_length": 2047,
        "where": "on AWS in eu-west-1",
        "machine": "a processor, 2 cores",
        "measured": "2026-11-26T12:00:00+00:00",
        "version": "1.0",
        "runs": 1,
        "notices": ["simulated: recorded"],
        "samples": [sample(cell.input_tokens, cell.new_tokens) for cell in PROTOCOL]
        if samples is None
        else samples,
    }
    return Measurement(**(values | changed))  # type: ignore[arg-type]
