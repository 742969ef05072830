"""Predicts every published run under load, from the single caller of its session or from another loaded run.

Nothing is fitted on the run that it is judged by. Three predictions:

* ``alone``: the prefill and the step come from the session's single caller, the stall is a tenth of the
  prefill. A single caller's first token is a prefill and a step. Sessions of several engines had one cold
  call for each, so that their prefill is that of one engine of the same model and shape.
* ``table``: a published table of the same model and shape, measured one batch at a time on another day.
* ``loaded``: one other loaded run gives the stall where the device samples, and the step of each row where
  the host does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.planning import drivers, runs
from benchmarks.planning.drivers import Figures
from benchmarks.planning.runs import Run
from inf2kit.planning import closed_form, published
from inf2kit.planning.capacity import HIGHEST_LOAD
from inf2kit.planning.published import STALL_SHARE
from inf2kit.planning.times import EngineModel, ServiceTimes

#: New tokens of a call where the table does not say: what was asked for, less the texts that ended earlier.
_NEW_TOKENS = 245.0
#: A queue that refuses nobody, as the measured servers had.
_QUEUE = 100_000
#: Prefills of a pass: vLLM takes two prompts of 1,500 tokens, but one where the host samples; TGI one.
_VLLM_PREFILLS = 2
_HALVINGS = 12
#: Callers of the largest waves that are simulated; beyond, only the queue grows.
_MOST_CALLERS = 256


@dataclass(frozen=True)
class Comparison:
    """A run and what was predicted for it.

    Attributes:
        run: The run.
        group: The kind of server and load, which the errors to expect are by.
        alone: The prediction from the session's single caller.
        loaded: The prediction from another loaded run; None if there is none.
        table: The prediction from a published table of one batch at a time; None if there is none of the
            shape.
        load: The share of the largest rate, for rates.
    """

    run: Run
    group: str
    alone: Figures
    loaded: Figures | None
    table: Figures | None
    load: float

    def errors(self, basis: str) -> dict[str, float]:
        """Predicted by measured, less 1, by figure; empty if there is no prediction."""
        predicted: Figures | None = getattr(self, basis)
        if predicted is None:
            return {}
        run = self.run
        if run.kind == "waves":
            measured = {"ttft_p50": run.ttft_p50, "per_token_p50": run.itl, "tokens": run.tokens}
        else:
            measured = {"latency": run.latency, "ttft": run.ttft, "itl": run.itl, "tokens": run.tokens}
        return {name: getattr(predicted, name) / value - 1 for name, value in measured.items() if value}


def compare_all(progress: Callable[[str], None] = lambda _: None) -> list[Comparison]:
    """Predict every run that has a single caller to learn from."""
    comparisons = []
    for session in runs.sessions():
        single, *loaded = session
        progress(f"{single.label}, {single.version}: {len(loaded)} runs")
        times = alone(single)
        for run in loaded:
            if run.in_flight > _MOST_CALLERS:
                continue
            other = _other(run, session)
            load = _load(run, times)
            comparisons.append(
                Comparison(
                    run,
                    _by_load(group(run), load),
                    predict(run, times),
                    predict(run, learn(other, alone(_single_of(other)), times)) if other else None,
                    predict(run, batch.times) if (batch := _table(run)) else None,
                    load,
                )
            )
    return comparisons


def alone(single: Run) -> ServiceTimes:
    """What a session's single caller says."""
    if single.tool.startswith("LLMPerf"):
        tokens, first_s, per_token_s = single.new_tokens or _NEW_TOKENS, single.ttft_p50, single.itl
        assert first_s is not None
        assert per_token_s is not None
        step_s = (per_token_s * tokens - first_s) / (tokens - 1)
    else:
        step_s, first_s = single.itl, single.ttft
        assert first_s is not None
        assert step_s is not None
    prefill_s = first_s - step_s
    if single.engines > 1 and single.is_vllm:
        warm = [run for run in _singles() if run.engines == 1 and _shape(run) == _shape(single)]
        prefills = [run.ttft - run.itl for run in warm if run.ttft and run.itl and run.sampling == "device"]
        # A mean with cold calls in it is longer than a warm prefill; a shorter one had none.
        prefill_s = min(prefill_s, sum(prefills) / len(prefills))
    return ServiceTimes((single.input_tokens,), (prefill_s,), step_s, 0.0, STALL_SHARE * prefill_s)


def learn(run: Run, own: ServiceTimes, times: ServiceTimes) -> ServiceTimes:
    """Add to ``times`` what a loaded run says: its stall, or its rows' share of a step where the host
    samples.

    Args:
        run: The loaded run.
        own: The times of its own session's single caller, to which the stall or the share is fitted.
        times: The times of the session that is to be predicted.
    """
    single_s, prefill_s = own.step_s, own.prefill_s[0]
    low, high = (0.0, 0.006) if run.sampling == "host" else (-0.1 * prefill_s, 0.6 * prefill_s)

    def with_value(base: ServiceTimes, value: float) -> ServiceTimes:
        if run.sampling == "host":
            return dataclasses.replace(base, step_s=base.step_s - value, row_step_s=value, stall_s=0.0)
        return dataclasses.replace(base, stall_s=value)

    assert single_s > 0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        predicted = predict(run, with_value(own, middle), seeds=3)
        too_slow = predicted.latency > (run.latency or math.inf)
        low, high = (low, middle) if too_slow else (middle, high)
    return with_value(times, (low + high) / 2)


def predict(run: Run, times: ServiceTimes, seeds: int = 6) -> Figures:
    """Predict what the tool of a run would report."""
    mean = run.new_tokens or _NEW_TOKENS
    engine = EngineModel(
        times,
        run.rows,
        _QUEUE,
        prefills_per_step=_prefills(run),
        first_token_after_step=run.is_vllm,
    )
    if run.kind == "waves":
        return drivers.llmperf_waves(engine, run.engines, run.in_flight, run.input_tokens, mean)

    def draw() -> drivers.Draw:
        return drivers.lengths(mean, runs.pool())

    if run.kind == "rate":
        return drivers.guidellm_rate(engine, run.engines, run.load, run.input_tokens, draw, min(seeds, 4))
    # A closed loop whose number of calls is not published goes on for the whole phase.
    calls = run.calls or 10_000
    return drivers.guidellm_users(engine, run.engines, calls, run.in_flight, run.input_tokens, draw, seeds)


def compare_raw() -> dict[str, dict[str, tuple[float, float]]]:
    """Measured and predicted figures of the raw reports: their calls' own lengths, in their order."""
    compared = {}
    for name, phases in runs.raw().items():
        alone_calls, loaded = phases["synchronous"], phases["throughput"]
        step_s = sum(call["gap_ms"] for call in alone_calls) / len(alone_calls) / 1000
        prefill_s = sum(call["ttft_s"] for call in alone_calls) / len(alone_calls) - step_s
        times = ServiceTimes((1500,), (prefill_s,), step_s, 0.0, STALL_SHARE * prefill_s)
        host = "v2" in name
        engine = EngineModel(
            times, 32, _QUEUE, prefills_per_step=1 if host else _VLLM_PREFILLS, first_token_after_step=True
        )
        tokens = [int(call["new_tokens"]) for call in loaded]
        predicted = drivers.guidellm_users(engine, 1, len(tokens), 31, 1500, drivers.in_order(tokens), 8)
        latencies = sorted(call["latency_s"] for call in loaded)
        firsts = sorted(call["ttft_s"] for call in loaded)
        measured = {
            "latency": sum(latencies) / len(latencies),
            "latency_p50": drivers.percentile(latencies, 50),
            "latency_p95": drivers.percentile(latencies, 95),
            "ttft": sum(firsts) / len(firsts),
            "ttft_p50": drivers.percentile(firsts, 50),
            "ttft_p95": drivers.percentile(firsts, 95),
        }
        compared[name] = {key: (value, getattr(predicted, key)) for key, value in measured.items()}
    return compared


def group(run: Run) -> str:
    """The kind of server and load of a run."""
    if run.kind == "waves":
        return "waves"
    if run.sampling == "host" and run.is_vllm:
        return "host sampling"
    if run.input_tokens > 10_000:
        return "long prompts"
    if run.is_vllm or "70B" in run.model:
        return "rates" if run.kind == "rate" else "closed loops and bursts"
    return "TGI rates" if run.kind == "rate" else "TGI bursts"


def _by_load(kind: str, load: float) -> str:
    """Rates apart by their load: above the highest, a plan prints no latency."""
    if kind != "rates":
        return kind
    side = "up to" if load <= HIGHEST_LOAD else "above"
    return f"rates {side} {HIGHEST_LOAD:.0%} of the largest"


def _prefills(run: Run) -> int:
    if run.kind == "waves":
        return run.rows
    return _VLLM_PREFILLS if run.is_vllm and run.sampling != "host" else 1


def _load(run: Run, times: ServiceTimes) -> float:
    engine = EngineModel(times, run.rows, _QUEUE)
    if run.kind != "rate":
        return math.nan
    mean = run.new_tokens or _NEW_TOKENS
    return run.load / (run.engines * closed_form.largest_rate(engine, run.input_tokens, mean))


def _other(run: Run, session: tuple[Run, ...]) -> Run | None:
    """A loaded run to learn from, which is not the one that is judged.

    Another of the session; with one run a session, that of the same server and month with another setting or
    with one engine.
    """
    if run.kind == "waves" or group(run).startswith("TGI"):
        return None
    for other in session[1:]:
        if other is not run:
            return other
    for other_session in runs.sessions():
        others = [other for other in other_session[1:] if other is not run]
        if others and _is_like(others[0], run):
            return others[0]
    return None


def _is_like(other: Run, run: Run) -> bool:
    same = (other.model, other.cores, other.rows, other.sampling, other.version, other.server)
    return (
        same == (run.model, run.cores, run.rows, run.sampling, run.version, run.server)
        and other.engines <= run.engines
        and other.kind == run.kind
    )


def _table(run: Run) -> published.PublishedEngine | None:
    """The newest table of the shape, of its time: where the host samples, tables tell nothing."""
    kind = group(run)
    if kind in ("waves", "host sampling", "long prompts") or kind.startswith("TGI"):
        return None
    model = run.model.replace("DeepSeek-R1-Distill-Llama-70B", "Llama-3.3-70B")
    candidates = [engine for engine in published.engines() if engine.measured.startswith("one batch")]
    return published.newest(candidates, model, run.cores, run.rows, 4096, "device")


def _single_of(run: Run) -> Run:
    return next(session[0] for session in runs.sessions() if any(other is run for other in session))


def _singles() -> Iterator[Run]:
    return (session[0] for session in runs.sessions())


def _shape(run: Run) -> tuple[str, int, int, int]:
    return run.model.rpartition("/")[2], run.cores, run.rows, run.input_tokens
