"""Streaming through boto3: time to first token against the whole, on this machine.

    make bench

Starts a local endpoint, streams 200 tokens several times, prints medians and saves every sample.
"""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import time
from pathlib import Path

from inf2kit import Endpoint
from inf2kit.cli import steps
from inf2kit.local import endpoint

PRESET, NAME = "smollm2-135m-local", "inf2kit-bench"
PROMPT = "My favorite place on earth is"
NEW_TOKENS, RUNS = 200, 3
SAMPLES = Path("build/bench/stream.json")


def one_stream(target: Endpoint) -> list[float]:
    """Seconds from the call to each token."""
    body = {
        "inputs": PROMPT,
        "parameters": {"max_new_tokens": NEW_TOKENS, "ignore_eos": True},
        "stream": True,
    }
    began = time.perf_counter()
    arrivals = [time.perf_counter() - began for _ in target.stream_events(body)]
    assert len(arrivals) == NEW_TOKENS, "a forced length that was not produced would make every figure wrong"  # noqa: S101
    return arrivals


def main() -> None:
    """Measure and print."""
    progress = steps()
    endpoint.up(PRESET, name=NAME, progress=progress)
    try:
        target = Endpoint(NAME)
        one_stream(target)  # not counted
        runs = []
        for index in range(RUNS):
            progress(f"stream {index + 1} of {RUNS}")
            runs.append(one_stream(target))
    finally:
        endpoint.down(NAME)
    SAMPLES.parent.mkdir(parents=True, exist_ok=True)
    SAMPLES.write_text(json.dumps({"preset": PRESET, "seconds_to_each_token": runs}), encoding="utf-8")
    first = statistics.median(run[0] for run in runs)
    whole = statistics.median(run[-1] for run in runs)
    gap = statistics.median(max(b - a for a, b in itertools.pairwise(run)) for run in runs)
    print(
        f"preset {PRESET}: torch on {platform.machine()}, float32, one caller, {NEW_TOKENS} new tokens forced"
    )
    print(f"measured at boto3 through front, gate and engine; medians of {RUNS} runs; samples in {SAMPLES}")
    print(f"  time to first token   {first:7.3f} s")
    print(f"  time to last token    {whole:7.3f} s    first / last = {first / whole:.3f}")
    print(f"  worst gap of a run    {gap:7.3f} s")


if __name__ == "__main__":
    main()
