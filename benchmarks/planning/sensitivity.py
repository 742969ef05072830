"""What the model itself costs in accuracy: its closed form, a small error in the times, and the roofline."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from random import Random

from inf2kit import load_preset
from inf2kit.planning import closed_form, published, roofline
from inf2kit.planning.published import PublishedEngine
from inf2kit.planning.simulation import Call, Simulation
from inf2kit.planning.times import EngineModel, ServiceTimes
from inf2kit.presets import Preset
from inf2kit.serving.shapes import StaticShapes

#: Prefill and step in seconds and rows, as measured on 8, 24 and 2 cores.
ENGINES = {
    "8B, 8 cores, 32 rows": EngineModel(ServiceTimes((1500,), (0.2975,), 0.0246, 0, 0.03), 32, 100_000),
    "70B, 24 cores, 8 rows": EngineModel(ServiceTimes((1500,), (1.05,), 0.0442, 0, 0.1), 8, 100_000),
    "8B, 2 cores, 4 rows": EngineModel(ServiceTimes((1500,), (1.007,), 0.0507, 0, 0.1), 4, 100_000),
}
_LENGTH, _CALLS, _SEEDS = 220, 2500, 4
_BASE = "llama2-7b-latency"
_LLAMA = {
    "model_type": "llama",
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
#: Sizes of models that no preset has, from their config.json on the hub.
_SIZES = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "70b": {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
    },
}


def open_loop(engine: EngineModel, load: float) -> tuple[float, float, float]:
    """Mean latency and first token at a load, and the closed form's latency; seconds."""
    rate = load * closed_form.largest_rate(engine, 1500, _LENGTH)
    latency, first = _simulate(engine, rate)
    form = closed_form.open_loop(engine, rate, 1500, _LENGTH)
    return latency, first, form[0] if form else float("nan")


def closed_loop_error() -> float:
    """The largest difference of the closed form's latency of callers who wait from the simulation's."""
    errors = []
    for engine in ENGINES.values():
        for share in (0.5, 1, 2):
            callers = round(share * engine.rows)
            generator, left = Random(0), 40 * callers

            def next_call(_: Call, now: float, generator: Random = generator) -> Call | None:
                nonlocal left
                left -= 1
                return Call(now, 1500, max(2, round(generator.gauss(_LENGTH, 66)))) if left >= 0 else None

            first = [Call(generator.uniform(0, 5), 1500, _LENGTH) for _ in range(callers)]
            first.sort(key=lambda call: call.arrival)
            done = Simulation(engine, next_call=next_call).run(first)
            window = sorted(done, key=lambda call: call.arrival)[len(done) // 5 : 4 * len(done) // 5]
            latency = statistics.fmean(call.end_at - call.arrival for call in window)
            tokens = statistics.fmean(call.new_tokens for call in window)
            form, _ = closed_form.closed_loop(engine, callers, 1500, tokens)
            errors.append(abs(form / latency - 1))
    return max(errors)


def faster(engine: EngineModel, load: float, share: float) -> tuple[float, float]:
    """By how much latency and first token fall, if all times are too short by a share at the same rate."""
    rate = load * closed_form.largest_rate(engine, 1500, _LENGTH)
    latency, first = _simulate(engine, rate)
    quick = dataclasses.replace(engine, times=engine.times.scaled(1 - share))
    quick_latency, quick_first = _simulate(quick, rate)
    return quick_latency / latency - 1, quick_first / first - 1


def speed() -> tuple[float, int]:
    """Seconds that 100,000 calls take to simulate on four instances, and the number that ended."""
    engine = dataclasses.replace(ENGINES["8B, 8 cores, 32 rows"], queue_size=32, deadline_s=55.0)
    calls = _calls(0.8 * 4 * closed_form.largest_rate(engine, 1500, _LENGTH), 100_000, 0)
    began = time.perf_counter()
    done = Simulation(engine, 4).run(calls)
    return time.perf_counter() - began, len(done)


def roofline_errors() -> list[tuple[PublishedEngine, float, float]]:
    """Each published engine, and by how much the roofline's prefill and step differ from it."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            (
                engine,
                times.prefill_s[0] / engine.times.prefill_s[-1] - 1,
                times.step(engine.batch_size) / engine.times.step(engine.batch_size) - 1,
            )
            for engine in published.engines()
            for times in [roofline.estimate(_preset(engine, Path(folder)))]
        ]


def _preset(engine: PublishedEngine, folder: Path) -> Preset:
    base, name = load_preset(_BASE), engine.model.lower()
    model_id = next((f"meta-llama/Llama-2-{size}-hf" for size in ("7b", "13b") if f"2-{size}" in name), "")
    if not model_id:
        size = "70b" if "70b" in name else "8b"
        path = folder / size
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps({**_LLAMA, **_SIZES[size]}))
        model_id = str(path)
    instance_type = "ml.inf2.48xlarge" if engine.cores > 2 else "ml.inf2.8xlarge"
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, id=model_id),
        shapes=StaticShapes.resolve(engine.batch_size, engine.sequence_length),
        compute=dataclasses.replace(
            base.compute, instance_type=instance_type, tensor_parallel_size=engine.cores
        ),
    )


def _simulate(engine: EngineModel, rate: float) -> tuple[float, float]:
    latencies, firsts = [], []
    for seed in range(_SEEDS):
        done = Simulation(engine).run(_calls(rate, _CALLS, seed))[_CALLS // 10 : -_CALLS // 10]
        latencies.append(statistics.fmean(call.end_at - call.arrival for call in done))
        firsts.append(statistics.fmean(call.first_at - call.arrival for call in done))
    return statistics.fmean(latencies), statistics.fmean(firsts)


def _calls(rate: float, number: int, seed: int) -> list[Call]:
    generator, now, calls = Random(seed), 0.0, []
    for _ in range(number):
        now += generator.expovariate(rate)
        calls.append(Call(now, 1500, max(2, round(generator.gauss(_LENGTH, 0.3 * _LENGTH)))))
    return calls
