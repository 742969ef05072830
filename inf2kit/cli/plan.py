"""``inf2kit plan``: what a demand needs on a preset's instances, what it costs, and what breaks first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

import inf2kit
from inf2kit.cli.extras import needs
from inf2kit.cli.types import LengthsType, Slo
from inf2kit.errors import PlanError

if TYPE_CHECKING:
    from inf2kit.planning.lengths import Lengths
    from inf2kit.planning.plan import Plan

_OBJECTIVES = {"ttft": "time_to_first_token", "latency": "request_latency"}


@click.command(short_help="Plan instances, cost and scaling for a demand.")
@click.argument("preset")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Calls per second, at random times.")
@click.option(
    "--callers",
    type=click.IntRange(1, 100_000),
    help="Callers who each wait for their answer and call again.",
)
@click.option(
    "--input-tokens",
    "inputs",
    type=LengthsType(),
    default="256",
    show_default=True,
    help="Input tokens.",
)
@click.option(
    "--new-tokens",
    "new",
    type=LengthsType(),
    default="256",
    show_default=True,
    help="New tokens: a number, a range such as 100-500, or MEAN~DEVIATION.",
)
@click.option(
    "--trace",
    "trace_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Calls of the past, .csv or .jsonl, with input_tokens, new_tokens and time_s.",
)
@click.option(
    "--slo",
    type=Slo(_OBJECTIVES),
    default={},
    help="What 19 of 20 calls must meet, in seconds, such as ttft=1,latency=30. Default: a whole answer.",
)
@click.option(
    "--stream/--no-stream",
    "streamed",
    default=None,
    help="Streamed or whole answers. Default: streamed if --slo has ttft.",
)
@click.option("--instance-type", help="Another of the preset's instances.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of 'bench load --calibrate'. Default: the preset's own, if there is one.",
)
@click.option(
    "--sampling",
    type=click.Choice(["host", "device"]),
    help="Where tokens are chosen: device for a model compiled with --on-device-sampling. "
    "Default: where the preset chooses them.",
)
@click.option(
    "--prefills-per-step",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="As INF2KIT_PREFILLS_PER_STEP.",
)
@click.option(
    "--peak",
    type=click.FloatRange(1),
    default=2.0,
    show_default=True,
    help="The busiest load, as a multiple of the demand.",
)
@click.option(
    "--growth",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    help="Per cent by which the load may grow in a minute.",
)
@click.option(
    "--scale-out-delay",
    type=click.FloatRange(0, 7200),
    default=600.0,
    show_default=True,
    help="Seconds from the decision to add an instance until it answers. Several engines load one after the "
    "other, so it is longer with them.",
)
@click.option("--region", help="The region of the prices. Default: the first one with a price.")
@click.option(
    "--seeds", type=click.IntRange(2, 50), default=5, show_default=True, help="Simulations of each figure."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the load sweep.")
@click.option(
    "--chart",
    "chart_path",
    type=click.Path(path_type=Path),
    help="Draw latency against load: FILE.png and FILE.svg. Needs the extra bench.",
)
def plan(
    preset: str,
    rate: float | None,
    callers: int | None,
    inputs: Lengths,
    new: Lengths,
    trace_path: Path | None,
    slo: dict[str, float],
    streamed: bool | None,
    instance_type: str | None,
    calibration: Path | None,
    sampling: str | None,
    prefills_per_step: int,
    peak: float,
    growth: float,
    scale_out_delay: float,
    region: str | None,
    seeds: int,
    as_json: bool,
    chart_path: Path | None,
) -> None:
    """Plan instances, cost and scaling for a demand. PRESET is a preset's name or a .toml file.

        inf2kit plan llama2-7b-throughput --rate 1 --slo ttft=2,latency=30

    The scheduler is simulated with the times of a prefill and of a decode step: those that 'bench load
    --calibrate' measured, else published ones of the same model and shape, else what the sizes of model and
    device allow. The plan says which, and the error to expect.
    """
    from inf2kit.planning import plan as plans
    from inf2kit.planning import report, trace
    from inf2kit.planning.demand import Demand
    from inf2kit.planning.prediction import Objectives
    from inf2kit.planning.scaling import Growth

    if rate is not None and not rate < float("inf"):
        raise click.BadParameter(f"{rate} is no number of calls per second", param_hint="'--rate'")
    if rate is not None and callers is not None:
        raise click.UsageError("give --rate or --callers, not both")
    if streamed is False and "ttft" in slo:
        raise click.UsageError("a limit of ttft needs streamed answers; leave out one of the two")
    if rate is None and callers is None and trace_path is None:
        raise click.UsageError("how much is asked? Give --rate, --callers, or a --trace with times")
    chosen = inf2kit.load_preset(preset)
    if instance_type:
        chosen = chosen.with_instance_type(instance_type)
    if trace_path:
        demand = Demand.of_trace(trace.read(trace_path), rate=rate, callers=callers)
    else:
        demand = Demand.of_lengths(inputs, new, rate=rate, callers=callers)
    situation = plans.Situation(
        demand,
        Objectives(slo.get("ttft"), slo.get("latency")),
        Growth(peak, growth / 100, scale_out_delay),
        sampling,
        region,
        prefills_per_step,
        seeds,
        "ttft" in slo if streamed is None else streamed,
    )
    if chart_path and not chart_path.parent.is_dir():
        folder = chart_path.parent
        raise PlanError(f"{folder} is no folder, so the chart cannot be written there; create it first")
    capacity_plan = plans.make(chosen, situation, calibration=calibration)
    others = plans.alternatives(capacity_plan)
    if chart_path:
        _draw(capacity_plan, chart_path)
    if as_json:
        click.echo(json.dumps(report.to_dict(capacity_plan, others), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(report.text(capacity_plan, others)))


@needs("bench")
def _draw(capacity_plan: Plan, path: Path) -> None:
    from inf2kit.cli import plan_chart

    for file in plan_chart.draw(capacity_plan, path):
        click.echo(f"wrote {file}", err=True)
