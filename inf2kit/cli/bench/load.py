"""``inf2kit bench load``: load on an endpoint, measured, and checked whether the figures can be right."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inf2kit.cli.bench.load_output import ProgressLine, ReportWriter, print_calibration, print_report, summary
from inf2kit.cli.calling import address_options
from inf2kit.cli.extras import needs
from inf2kit.cli.output import results_folder
from inf2kit.cli.types import LengthsType, Numbers, Slo
from inf2kit.errors import Inf2KitError
from inf2kit.names import endpoint_or_preset

if TYPE_CHECKING:
    from inf2kit.bench.load.calibrate import Calibrator
    from inf2kit.bench.load.run import Plan, Run
    from inf2kit.bench.load.samples import Cell, Load
    from inf2kit.catalog.calibration import Calibration
    from inf2kit.planning.lengths import Lengths

#: The loads of a command that names none.
_CALLERS = "1,2,4,8,16"
#: Seconds of each load but a replay, which lasts as long as its trace.
_SECONDS = 60.0
_SLO = {
    "ttft": "time_to_first_token",
    "itl": "inter_token_latency",
    "latency": "request_latency",
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command("load")
@click.argument("endpoint")
@click.option("--preset", help="The preset that --calibrate is of, where it is not known.")
@click.option(
    "--calibrate", is_flag=True, help="Measure what 'inf2kit plan' wants, and store it for the preset."
)
@click.option(
    "--engines", type=click.IntRange(1), help="Engines, for --calibrate. Default: those of one instance."
)
@click.option(
    "--on-device-sampling",
    is_flag=True,
    help="--calibrate a model that was compiled with that option, where the endpoint does not tell.",
)
@click.option("--callers", type=Numbers(int), help=f"Closed loops of so many callers. Default: {_CALLERS}.")
@click.option("--rate", "rates", type=Numbers(float), help="Open loops of so many calls a second (Poisson).")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 86_400),
    help=f"Duration of each load. Default: {_SECONDS:g}, and of a replay its trace's.",
)
@click.option(
    "--requests", type=click.IntRange(1), help="Number of calls of each load, instead of --seconds."
)
@click.option(
    "--input-tokens", type=LengthsType(), default="256", show_default=True, help="Tokens of the prompts."
)
@click.option(
    "--new-tokens",
    type=LengthsType(),
    default="128",
    show_default=True,
    help="New tokens, forced: a number, a range such as 64-512, or MEAN~DEVIATION.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Calls of the past, .csv or .jsonl: lines with input_tokens and new_tokens, or with a prompt.",
)
@click.option(
    "--replay",
    "speeds",
    type=Numbers(float),
    metavar="SPEED,...",
    help="Open loops at the times of --trace (time_s) or --capture, so many times as fast, such as 1,2.",
)
@click.option(
    "--capture",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file of SageMaker's data capture, whose calls are sent again.",
)
@click.option("--stream/--no-stream", default=True, show_default=True, help="Streamed or whole answers.")
@click.option(
    "--transport",
    type=click.Choice(["async", "boto3", "openai", "jobs"]),
    default="async",
    show_default=True,
    help="How calls are sent: asyncio, boto3 in threads, OpenAI's route, or asynchronous jobs through S3.",
)
@click.option(
    "--slo", type=Slo(_SLO), default={}, help="Limits for goodput, such as ttft=1,latency=30,itl=0.1."
)
@click.option(
    "--warm-up",
    type=click.IntRange(0, 256),
    default=4,
    show_default=True,
    help="Calls at once before the first load.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The seed of prompts, lengths, arrivals."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that a call may take.")
@click.option(
    "--metrics-url", help="The address of the container's /metrics. Default: a local endpoint's own."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the report. Default: a new one.",
)
@click.option("--quiet", is_flag=True, help="Print no progress.")
@address_options
@needs("bench")
def load(
    endpoint: str,
    *,
    preset: str | None,
    calibrate: bool,
    engines: int | None,
    on_device_sampling: bool,
    callers: tuple[int, ...] | None,
    rates: tuple[float, ...] | None,
    speeds: tuple[float, ...] | None,
    transport: str,
    timeout: float | None,
    metrics_url: str | None,
    output: Path | None,
    quiet: bool,
    endpoint_url: str | None,
    region_name: str | None,
    profile_name: str | None,
    **options: Any,
) -> int:
    """Put load on ENDPOINT, measure it, and check whether the figures can be right.

    It prints rates and percentiles, and writes load.json with the raw samples, report.html, and a
    profile_export_aiperf.json for each load. Ctrl-C ends it and keeps what was measured.

    With --calibrate, the loads are those that 'inf2kit plan' wants: calls alone, a closed loop with a
    caller for each row, and a rate of 70 % of what it can do.
    """
    import matplotlib as mpl  # noqa: F401 - a missing extra is said before the measurement, not after it

    from inf2kit.bench.load.calibrate import Calibrator
    from inf2kit.bench.load.run import parse_loads
    from inf2kit.bench.load.start import Address, open_run
    from inf2kit.bench.load.subject import find_subject

    if calibrate and (callers or rates or speeds):
        raise click.UsageError(
            "--calibrate chooses the loads itself; leave out --callers, --rate and --replay"
        )
    if speeds and (callers or rates):
        raise click.UsageError("a --replay has the times of its trace; leave out --callers and --rate")
    if not (callers or rates or speeds):
        callers = tuple(map(int, _CALLERS.split(",")))
    plan = _plan(parse_loads(callers or (), rates or (), speeds or ()), transport, **options)
    if calibrate and (not plan.streamed or transport == "jobs" or not plan.workload.needs_prompts):
        raise click.UsageError("--calibrate needs streamed answers, and lengths or a trace of lengths")
    endpoint = endpoint_or_preset(endpoint)
    address = Address(endpoint, endpoint_url, region_name, profile_name)
    writer = ReportWriter(output or Path(f"load-{endpoint}-{dt.datetime.now(dt.timezone.utc):%Y%m%d-%H%M%S}"))
    progress = ProgressLine(quiet=quiet)

    async def measure() -> tuple[Run, int, Calibration | None]:
        run = await open_run(
            address, transport, plan, timeout_s=timeout, metrics_url=metrics_url, on_progress=progress
        )
        if metrics_url and await run.server_metrics() is None:
            raise Inf2KitError(
                f"there are no metrics of a container at {metrics_url}; correct --metrics-url or leave it out"
            )
        calibrator = None
        if calibrate:
            subject = await find_subject(run, preset, on_device_sampling=on_device_sampling, engines=engines)
            calibrator = Calibrator(run, subject, plan.workload, plan.until.seconds, plan.seed)
        return run, *await _measure(run, calibrator, writer, progress)

    with results_folder(writer.folder):
        run, status, calibration = asyncio.run(measure())
        if run.report.cells:
            writer.finish(run.report)
            print_report(run.report)
            click.echo(f"report: {writer.folder / 'report.html'}")
    if run.error is not None:
        raise click.ClickException(f"given up, since every call failed: {run.error}")
    if calibration is not None:
        print_calibration(calibration, calibration.save())
    return status


def _plan(
    loads: tuple[Load, ...],
    transport: str,
    *,
    seconds: float | None,
    requests: int | None,
    input_tokens: Lengths,
    new_tokens: Lengths,
    trace: Path | None,
    capture: Path | None,
    stream: bool,
    slo: dict[str, float],
    warm_up: int,
    seed: int,
) -> Plan:
    from inf2kit.bench.load.loops import Until
    from inf2kit.bench.load.plan import Workload
    from inf2kit.bench.load.run import Plan

    if trace and capture:
        raise click.UsageError("give --trace or --capture, not both")
    streamed = stream and transport != "jobs"
    if not streamed and set(slo) & {"ttft", "itl"}:
        raise click.UsageError("limits of ttft and itl need streamed answers; leave them out of --slo")
    if trace:
        workload = Workload.read_trace(trace)
    elif capture:
        workload = Workload.read_capture(capture)
    else:
        workload = Workload.of_lengths(input_tokens, new_tokens)
    is_replay = loads[0].kind == "replay"
    if is_replay and not workload.times_s:
        raise click.UsageError(
            "--replay needs a --trace whose every line has time_s, the seconds at which its call came, or a "
            "--capture"
        )
    seconds = seconds or (math.inf if is_replay else _SECONDS)
    return Plan(loads, Until(seconds, requests), workload, warm_up, seed, streamed, slo)


async def _measure(
    run: Run, calibrator: Calibrator | None, writer: ReportWriter, progress: ProgressLine
) -> tuple[int, Calibration | None]:
    """Measure all loads.

    Returns:
        The command's status, which is a signal's if one has ended it, and the calibration.
    """
    stop = asyncio.Event()
    status = 0
    event_loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        nonlocal status
        status = 128 + number
        stop.set()
        # A second one ends it at once.
        for each in _SIGNALS:
            event_loop.remove_signal_handler(each)

    def keep(cell: Cell) -> None:
        """Whatever happens later, this load is kept."""
        writer.keep(run.report)
        progress.print_line(f"{cell.load}: {summary(cell, run.report.slo)}")

    try:
        progress.print_line("finding out how prompts are built, and warming up")
        build_prompt = await run.prepare()
        for number in _SIGNALS:
            event_loop.add_signal_handler(number, end, number)
        if calibrator is not None:
            calibration = await calibrator.measure(build_prompt, stop, keep)
            return status, calibration
        async for cell in run.cells(build_prompt, stop):
            keep(cell)
    finally:
        for number in _SIGNALS:
            event_loop.remove_signal_handler(number)
        await run.aclose()
    return status, None
