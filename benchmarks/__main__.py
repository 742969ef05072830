"""``make bench``: measure, print one table, save the raw samples, and write docs/performance.md.

python -m benchmarks [--runs 3] [--only engine,step,...] [--write-docs]
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path

import torch

from benchmarks import (
    documents,
    engine,
    long_text,
    package,
    rehearsal,
    servers,
    stack,
    step,
    synth,
    throughput,
)
from benchmarks.prompts import Prompts
from benchmarks.raw import Raw
from benchmarks.report import FOLDER, Report, machine
from inf2kit.rehearsal import model
from inf2kit.serving.engine.backend.cpu.backend import native_dtypes

PARTS = ("throughput", "engine", "step", "long_text", "stack", "package", "synth", "rehearsal")


def main() -> None:
    """Measure the parts that were asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", default=",".join(PARTS))
    options.add_argument("--seconds", type=float, default=20.0, help="of each point of the load sweep")
    options.add_argument("--write-docs", action="store_true")
    given = options.parse_args()
    parts = given.only.split(",")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights = model.prepare()
    prompts, report = Prompts(weights), Report()
    print(f"{machine()}; SmolLM2-135M, float32; medians of {given.runs} runs or more; samples in {FOLDER}")
    print("A ratio is the median of ratios of samples taken beside each other in one round.")
    dtypes = ["float32", *(["bfloat16"] if "bfloat16" in native_dtypes() else [])]
    if len(dtypes) == 1:
        print("bfloat16 is not native on this processor, and left out")
    for dtype in dtypes if "throughput" in parts else ():
        raw = Raw(weights, prompts.tokenizer, getattr(torch, dtype))
        throughput.with_all_contenders(report, raw, prompts, weights, given.runs, dtype)
    if "engine" in parts:
        engine.overhead(report, prompts, given.runs)
        engine.prefills_per_step(report, weights, prompts, given.runs)
    if "step" in parts:
        step.breakdown(report, weights, given.runs)
    if "long_text" in parts:
        long_text.perplexity(report, Raw(weights, prompts.tokenizer), prompts, given.runs)
    if "stack" in parts:
        _stack(report, prompts, given.runs, given.seconds)
    if "package" in parts:
        package.upload(report, given.runs)
    if "synth" in parts:
        synth.synth(report, given.runs)
    if "rehearsal" in parts:
        rehearsal.rehearsal(report, given.runs)
    if given.write_docs:
        documents.write(Path("docs/performance.md"))
        print("\nwritten: docs/performance.md")


def _stack(report: Report, prompts: Prompts, runs: int, seconds: float) -> None:
    stack.hops(report, prompts)
    starts = []
    for run in itertools.count(1):
        began = time.perf_counter()
        with servers.kit(servers.PRESET) as (server, state):
            starts.append(time.perf_counter() - began)
            if run < runs:
                continue
            stack.first_tokens_and_gaps(report, prompts, state, runs)
            stack.sweep(report, prompts, server, state, runs, seconds)
            stack.start_and_memory(report, server, starts)
            return


if __name__ == "__main__":
    main()
