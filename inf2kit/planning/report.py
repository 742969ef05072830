"""A plan as text for people, and as a document for programs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from inf2kit.planning import cost
from inf2kit.planning.plan import Alternative, Plan
from inf2kit.planning.prediction import WHOLE_LIMIT_S, Estimate
from inf2kit.planning.scaling import DETECTION_S

#: Seconds in which SageMaker must have an asynchronous answer.
_ASYNC_S = 3600


def to_dict(plan: Plan, alternatives: Sequence[Alternative]) -> dict[str, Any]:
    """Return a plan as JSON has it: seconds, dollars and shares; names of metrics as AIPerf writes them."""
    demand, objectives = plan.situation.demand, plan.situation.objectives
    document: dict[str, Any] = _plain(
        {
            "preset": plan.preset.name,
            "instance_type": plan.preset.compute.instance_type,
            "instances": plan.prediction.instances,
            "engines": plan.engine.engines,
            "demand": {
                "rate": demand.rate,
                "callers": demand.callers,
                "streamed": plan.situation.streamed,
                "lengths": demand.description,
                "mean_input_tokens": demand.mean_input,
                "mean_new_tokens": demand.mean_new,
            },
            "objectives": {"share": 0.95, **dataclasses.asdict(objectives)},
            "basis": {
                "kind": plan.basis.kind,
                "source": plan.basis.source,
                "times": dataclasses.asdict(plan.basis.times),
                "errors_to_expect": dataclasses.asdict(plan.basis.errors),
            },
            "prediction": plan.prediction,
            "without_deadline": plan.unlimited,
            "longest_answer_tokens": plan.longest_answer,
            "knee": plan.knee,
            "limits": plan.limits,
            "cost": plan.cost
            and {
                **(_cost(plan.cost) or {}),
                "usd_per_million_new_tokens_at_the_knee": plan.cost.usd_per_million_at(
                    plan.knee.output_token_throughput.value
                ),
            },
            "quota": {
                "name": f"{plan.preset.compute.instance_type} for endpoint usage",
                "code": cost.quota_code(plan.preset.compute.instance_type),
                "instances": plan.scaling.max_instances,
                "during_an_update": 2 * plan.scaling.max_instances,
            },
            "scaling": {**dataclasses.asdict(plan.scaling), "context": plan.scaling.context},
            "alternatives": [
                {**dataclasses.asdict(other), "cost": _cost(other.cost)} for other in alternatives
            ],
            "sweep": plan.sweep,
            "notes": plan.notes,
        }
    )
    return document


def text(plan: Plan, alternatives: Sequence[Alternative]) -> list[str]:
    """Return a plan as lines for people."""
    sections = [
        _head(plan),
        _figures(plan),
        _limits(plan),
        _long_answers(plan),
        _cost_lines(plan),
        _scaling_lines(plan),
        *([_table(plan, alternatives)] if alternatives else []),
        [f"note: {note}" for note in plan.notes],
    ]
    lines: list[str] = []
    for section in filter(None, sections):
        lines += [*([""] if lines else []), *section]
    return lines


def _head(plan: Plan) -> list[str]:
    demand, objectives, basis = plan.situation.demand, plan.situation.objectives, plan.basis
    asked = [
        f"{what} within {seconds:g} s"
        for what, seconds in (("the first token", objectives.ttft_s), ("the answer", objectives.latency_s))
        if seconds
    ]
    errors = basis.errors
    latency = errors.latency if demand.callers else errors.open_latency
    engines, streamed = plan.engine.engines, ", streamed" if plan.situation.streamed else ""
    of_engines = f" of {engines} engines each" if engines > 1 else ""
    return [
        f"{plan.prediction.instances} x {plan.preset.compute.instance_type}{of_engines} for "
        f"{plan.preset.name}: {demand.amount}, {demand.description}{streamed}",
        f"asked of 19 calls in 20: {', '.join(asked) or 'a whole answer, not refused'}",
        f"by {basis.source}",
        f"error to expect: latency up to {latency:.0%} longer than predicted, first token "
        f"{errors.first_token:.0%}, throughput {errors.throughput:.0%} lower; the number of instances "
        "allows for it",
    ]


def _figures(plan: Plan) -> list[str]:
    prediction = plan.prediction
    rows: list[tuple[str, ...]] = [("PREDICTED, seconds", "mean", "p50", "p90", "p95", "p99")]
    for label, figures in (
        ("waiting for a row", prediction.waiting_s),
        ("time to first token", prediction.time_to_first_token),
        ("request latency", prediction.request_latency),
    ):
        cells = [_number(figures[name].value) for name in ("mean", "p50", "p90")]
        rows.append((label, *cells, _interval(figures["p95"]), _number(figures["p99"].value)))
    lines = _columns(rows)
    return [
        *lines,
        f"inter token latency {_number(1000 * prediction.inter_token_latency.value)} ms, "
        f"{prediction.output_token_throughput.value:,.0f} new tokens a second, inside an instance "
        f"{prediction.inside.value:.2g} calls, {prediction.rows_live.value:.2g} of them decoding",
        f"load: {prediction.load:.0%} of what the instances can take; failures: "
        f"{prediction.refused.value:.2%} refused (429), {prediction.cut.value:.2%} cut at "
        f"{plan.engine.ends_s:g} s",
        f"simulated {plan.situation.seeds} times with different seeds; ± is a 95 % confidence interval "
        "between them",
    ]


def _limits(plan: Plan) -> list[str]:
    knee = plan.knee
    number = plan.prediction.instances

    def words(amount: float) -> str:
        return f"{amount:.0f} callers" if knee.callers else f"{_number(amount)} calls a second"

    lines = [f"WHEN THE LOAD GROWS on {number} instance{'s' if number > 1 else ''}, of the loads simulated:"]
    lines += [f"  from {words(limit.amount)}: {limit.what}" for limit in plan.limits]
    lines.append(
        f"  knee at {words(knee.callers or knee.rate)}: beyond it, latency grows faster than throughput "
        f"(p95 there: {_number(knee.request_latency['p95'].value)} s)"
    )
    return lines


def _long_answers(plan: Plan) -> list[str]:
    over, ends_s, serving = plan.unlimited.over_60_s.value, plan.engine.ends_s, plan.preset.serving
    what = (
        "take longer than SageMaker waits for a whole answer, and must be streamed; an instance ends streams"
        if plan.situation.streamed
        else "would take longer than SageMaker waits for a whole answer; an instance cuts them"
    )
    lines = [
        f"CALLS OVER {WHOLE_LIMIT_S:g} s: {over:.1%} {what} at {ends_s:g} s, which is "
        f"{_number(plan.longest_answer)} new tokens where a call is alone"
    ]
    if plan.prediction.cut.value > 0 or (over > 0 and not plan.situation.streamed):
        gap_s = plan.unlimited.inter_token_latency.value
        first_s = plan.unlimited.time_to_first_token["p95"].value
        fitting = max(1, int((ends_s - first_s) / gap_s)) if gap_s > 0 else 1
        lines.append(f"  fewer tokens: at most {fitting} new tokens fit under this load")
        if not plan.situation.streamed:
            limit_s = serving.stream_deadline_s
            how = f"up to {limit_s:g} s" if limit_s else "needs a preset with a stream_deadline_s"
            lines.append(f"  streams (--stream): {how}")
        lines.append(
            f"  asynchronous: up to {_ASYNC_S // 60} minutes, -c asynchronous=true -c async_deadline_s=..."
        )
    return lines


def _cost_lines(plan: Plan) -> list[str]:
    instance_type, scaling = plan.preset.compute.instance_type, plan.scaling
    lines = []
    if plan.cost:
        price = plan.cost
        apart_input, apart_new = price.usd_per_million_apart
        at_knee = price.usd_per_million_at(plan.knee.output_token_throughput.value)
        lines += [
            f"COST  ${price.usd_per_hour:,.2f} an hour, ${price.usd_per_month:,.0f} a month "
            f"({price.region}, {price.date}; on demand)",
            f"  a million new tokens at this load: ${price.usd_per_million_new:,.2f}, at the knee "
            f"${at_knee:,.2f}; or at this load apart, by the engines' time: input ${apart_input:,.2f}, "
            f"new ${apart_new:,.2f}",
        ]
    code = cost.quota_code(instance_type)
    if code:
        lines.append(
            f"QUOTA  {scaling.max_instances} of '{instance_type} for endpoint usage' ({code}), twice as "
            "many while an update runs"
        )
    return lines


def _scaling_lines(plan: Plan) -> list[str]:
    scaling, growth = plan.scaling, plan.scaling.growth
    if plan.preset.compute.backend != "neuron":
        return []
    lines = [
        f"SCALING  for a peak of {growth.peak:g} times the demand, growing by up to "
        f"{growth.per_minute:.0%} a minute, noticed within {DETECTION_S} s, with {growth.delay_s:g} s until "
        "a new instance answers:",
        f"  cdk deploy {' '.join(scaling.context)}",
    ]
    if not scaling.is_exact:
        lines.append(
            "  the load that an instance can have is no target of scaling, which is from one text to all "
            "rows: so there are always enough instances for the peak"
        )
    return lines


def _table(plan: Plan, alternatives: Sequence[Alternative]) -> list[str]:
    chosen = Alternative(
        plan.preset.name,
        plan.preset.compute.instance_type,
        plan.prediction.instances,
        plan.prediction,
        plan.cost,
        plan.basis.kind,
    )
    rows: list[tuple[str, ...]] = [
        ("SIDE BY SIDE", "instance", "number", "$/hour", "$/M new", "p95 first", "p95 answer", "by")
    ]
    reasons: dict[str, list[str]] = {}
    for other in (chosen, *alternatives):
        cells = ["-"] * 5
        if other.prediction:
            price = other.cost
            cells = [
                str(other.instances),
                f"{price.usd_per_hour:.2f}" if price else "-",
                f"{price.usd_per_million_new:.2f}" if price else "-",
                _number(other.prediction.time_to_first_token["p95"].value),
                _number(other.prediction.request_latency["p95"].value),
            ]
        else:
            reasons.setdefault(other.reason, []).append(f"{other.preset} on {other.instance_type}")
        rows.append((other.preset, other.instance_type, *cells, other.kind or "no plan"))
    lines = _columns(rows)
    return [*lines, *(f"  {', '.join(which)}: {reason}" for reason, which in reasons.items())]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    if math.isnan(value):
        return "-"
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 2
    return f"{value:,.{max(0, digits)}f}"


def _interval(figure: Estimate) -> str:
    value = _number(figure.value)
    return value if math.isnan(figure.half_width) else f"{value} ±{_number(figure.half_width)}"


def _cost(price: cost.Cost | None) -> dict[str, Any] | None:
    if price is None:
        return None
    apart_input, apart_new = price.usd_per_million_apart
    return {
        "usd_per_hour": price.usd_per_hour,
        "usd_per_month": price.usd_per_month,
        "usd_per_million_new_tokens": price.usd_per_million_new,
        "usd_per_million_apart": {"input": apart_input, "new": apart_new},
        "region": price.region,
        "date": price.date,
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it: without dataclasses, dates and numbers that are none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
