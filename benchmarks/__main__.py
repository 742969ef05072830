"""``make bench``: measure, print a table for each section, and save the samples in build/bench."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path

import torch

from benchmarks import (
    client,
    documents,
    engine,
    fleet,
    long_text,
    package,
    rehearsal,
    sampling,
    servers,
    stack,
    start,
    step,
    synth,
    throughput,
)
from benchmarks.baseline import Baseline
from benchmarks.ending import end_children
from benchmarks.prompts import Prompts
from benchmarks.report import FOLDER, Report, machine
from inf2kit.errors import suggest
from inf2kit.rehearsal import model
from inf2kit.serving.engine.backend.cpu.backend import native_dtypes

PARTS = (
    "throughput",
    "engine",
    "sampling",
    "step",
    "long_text",
    "start",
    "stack",
    "fleet",
    "client",
    "package",
    "synth",
    "rehearsal",
)


def main() -> None:
    """Measure the selected parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="samples of each figure (default: 3)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas (default: all)")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="duration of each point of the load sweep (default: 20)"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write docs/performance.md from the saved samples"
    )
    options = parser.parse_args()
    parts = options.only.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(
                f"there is no part {part!r}{suggest(part, PARTS) or ';'} there are {', '.join(PARTS)}"
            )
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights = model.prepare()
    prompts, report = Prompts(weights), Report()
    print(f"{machine()}; SmolLM2-135M, float32; medians of {options.runs} runs or more; samples in {FOLDER}")
    print("A ratio is the median of the ratios of samples that were taken in the same round.")
    dtypes = ["float32", *(["bfloat16"] if "bfloat16" in native_dtypes() else [])]
    if len(dtypes) == 1:
        print("bfloat16 is left out: this processor does not compute it natively")
    for dtype in dtypes if "throughput" in parts else ():
        baseline = Baseline(weights, prompts.tokenizer, getattr(torch, dtype))
        throughput.measure_all(report, baseline, prompts, weights, options.runs, dtype)
    if "engine" in parts:
        engine.measure_overhead(report, prompts, options.runs)
        engine.measure_prefills_per_step(report, weights, prompts, options.runs)
    if "sampling" in parts:
        sampling.measure_sampling(report, weights, prompts)
    if "step" in parts:
        step.measure_breakdown(report, weights, options.runs)
    if "long_text" in parts:
        long_text.measure_perplexity(report, Baseline(weights, prompts.tokenizer), prompts, options.runs)
    if "start" in parts:
        start.measure_start(report, options.runs)
    if "stack" in parts:
        _measure_stack(report, prompts, options.runs, options.seconds)
    if "fleet" in parts:
        fleet.measure_fleet(report, prompts, options.runs)
    if "client" in parts:
        client.measure_client(report, options.runs)
    if "package" in parts:
        package.measure_upload(report, options.runs)
    if "synth" in parts:
        synth.measure_synth(report, options.runs)
    if "rehearsal" in parts:
        rehearsal.measure_rehearsal(report, options.runs)
    if options.write_docs:
        documents.write(Path("docs/performance.md"))
        print("\nwrote docs/performance.md")


def _measure_stack(report: Report, prompts: Prompts, runs: int, seconds: float) -> None:
    stack.measure_hops(report, prompts)
    starts = []
    for run in itertools.count(1):
        began = time.perf_counter()
        with servers.local_endpoint(servers.PRESET) as (server, state):
            starts.append(time.perf_counter() - began)
            if run < runs:
                continue
            stack.measure_streams(report, prompts, state, runs)
            stack.measure_load(report, prompts, server, state, runs, seconds)
            stack.measure_start_and_memory(report, server, starts)
            return


if __name__ == "__main__":
    with end_children():
        main()
