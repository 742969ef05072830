"""``inf2kit bench tables`` and ``inf2kit bench charts``: the published tables, measured again."""

from __future__ import annotations

import datetime as dt
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import inf2kit
from inf2kit.cli.calling import address_options, connect
from inf2kit.cli.extras import needs
from inf2kit.cli.output import results_folder

if TYPE_CHECKING:
    from inf2kit.bench.tables.callers import Caller
    from inf2kit.bench.tables.measure import Step
    from inf2kit.bench.tables.samples import Measurement
    from inf2kit.serving.shapes import StaticShapes


@click.command()
@click.argument("endpoint", required=False)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run a model's folder in this process, instead of calling an endpoint.",
)
@click.option("--preset", help="The preset that is measured, where it is not known.")
@click.option(
    "--batch-size", type=click.IntRange(1, 1024), help="Rows, with --model DIR of plain weights. Default: 1."
)
@click.option(
    "--runs",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Calls for each cell, after a warm-up.",
)
@click.option(
    "--long",
    type=click.Choice(["stream", "skip"]),
    default="stream",
    show_default=True,
    help="What to do with calls whose whole answer would take longer than SageMaker allows.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A new folder for the results. Default: tables-ENDPOINT-TIME.",
)
@click.option("--charts/--no-charts", "with_charts", default=True, help="Draw charts; needs the extra bench.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@address_options
def tables(
    endpoint: str | None,
    model_dir: Path | None,
    preset: str | None,
    batch_size: int | None,
    runs: int,
    long: str,
    output: Path | None,
    with_charts: bool,
    quiet: bool,
    endpoint_url: str | None,
    region_name: str | None,
    profile_name: str | None,
) -> None:
    """Measure encoding time, end-to-end latency and throughput of ENDPOINT, as Hugging Face published them.

    Each call has the same prompt in every row of the batch and a fixed number of new tokens. Prints the
    tables beside the published figures, and writes them as JSON with all samples, Markdown, CSV, charts and
    the JSON of optimum-neuron's benchmark. Ctrl-C keeps what is measured so far.
    """
    if (endpoint is None) is (model_dir is None):
        raise click.UsageError("give the name of an endpoint, or --model DIR")
    if batch_size and model_dir is None:
        raise click.UsageError("--batch-size is for --model DIR; an endpoint has the rows of its preset")
    folder = _new_folder(output, endpoint or (model_dir or Path()).name)
    if with_charts:
        with needs("bench"):
            import matplotlib as mpl

            mpl.get_backend()
    if endpoint is not None:
        client = connect(endpoint, endpoint_url, region_name, profile_name)
        measurement, caller = _prepare_endpoint(client, preset, runs)
    else:
        with needs("local"):
            measurement, caller = _prepare_model(model_dir or Path(), preset, batch_size, runs)
    with results_folder(folder):
        _measure(caller, measurement, long, None if quiet else _Progress(), folder, with_charts)


@click.command()
@click.argument(
    "results",
    nargs=-1,
    required=True,
    metavar="RESULT.json...",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="The folder for the charts.",
)
@needs("bench")
def charts(results: tuple[Path, ...], output: Path) -> None:
    """Draw the results of several 'bench tables' side by side: a bar for each of them.

    RESULT.json is the file tables.json of a result.
    """
    from inf2kit.bench.charts import LOOKS
    from inf2kit.bench.tables.figures import draw_charts
    from inf2kit.bench.tables.samples import Measurement

    if len(results) > len(LOOKS):
        raise click.UsageError(
            f"{len(results)} results are too many for one chart; give at most {len(LOOKS)}"
        )
    measurements = [Measurement.read(path) for path in results]
    output.mkdir(parents=True, exist_ok=True)
    for path in draw_charts(measurements, output):
        click.echo(path)


class _Progress:
    """Prints where a benchmark is: on a terminal in one line, elsewhere a line for each call."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, step: Step) -> None:
        if self._is_terminal:
            click.echo(f"\r\x1b[K{step}", nl=False, err=True)
        else:
            click.echo(str(step), err=True)

    def end(self) -> None:
        """End the line of a terminal."""
        if self._is_terminal:
            click.echo(err=True)


def _measure(
    caller: Caller,
    measurement: Measurement,
    long: str,
    progress: _Progress | None,
    folder: Path,
    with_charts: bool,
) -> None:
    """Measure, and write the results: all, or after an interruption those that there are."""
    from inf2kit.bench.tables.aggregate import aggregate
    from inf2kit.bench.tables.measure import Bench
    from inf2kit.bench.tables.output import write
    from inf2kit.bench.tables.render import markdown

    bench = Bench(caller, measurement, long=long, report=progress or (lambda _: None))
    interruption: BaseException | None = None
    try:
        bench.run()
    except (KeyboardInterrupt, SystemExit) as error:
        interruption = error
    finally:
        if progress:
            progress.end()
    if interruption is not None and not measurement.samples:
        raise interruption
    if interruption is not None:
        measurement.notices.append("interrupted: not all calls were made")
    with needs("bench") if with_charts else nullcontext():
        files = write(measurement, folder, charts=with_charts)
    click.echo(markdown(measurement, aggregate(measurement)), nl=False)
    click.echo(f"{len(files)} files are in {folder}", err=True)
    if interruption is not None:
        raise interruption


def _prepare_endpoint(
    client: inf2kit.Endpoint, preset_name: str | None, runs: int
) -> tuple[Measurement, Caller]:
    from inf2kit.bench.machine import describe_processor
    from inf2kit.bench.served import find_preset
    from inf2kit.bench.tables.callers import EndpointCaller

    preset = find_preset(client.name, preset_name)
    if preset is None:
        raise click.UsageError(
            f"which preset endpoint {client.name!r} serves is not known, and neither are its rows; give "
            "--preset, a name from 'inf2kit presets' or the path of a TOML file"
        )
    where = repr(client).strip("<>").partition(" ")[2]
    notices = []
    if client.is_local:
        notices.append(f"on this machine ({describe_processor()}): no Neuron device was used")
    if (engines := preset.compute.data_parallel_size) > 1:
        notices.append(
            f"the figures are those of one of {engines} engines, to which a list of prompts goes; "
            "calls that are streamed go to all of them, so that each has its rows full"
        )
    caller = EndpointCaller(client, engines)
    return _measurement(client.name, preset.name, preset.shapes, where, notices, runs), caller


def _prepare_model(
    directory: Path, preset_name: str | None, batch_size: int | None, runs: int
) -> tuple[Measurement, Caller]:
    from inf2kit.bench.machine import describe_processor
    from inf2kit.bench.tables.callers import ModelCaller
    from inf2kit.offline import load

    preset = inf2kit.load_preset(preset_name).name if preset_name else _packaged_preset(directory)
    model = load(directory, batch_size=batch_size)
    notices = []
    if model.backend != "neuron":
        notices.append(f"on this CPU ({describe_processor()}): no Neuron device was used")
    where = f"{directory} in the caller's process, backend {model.backend}"
    return _measurement(directory.name, preset, model.shapes, where, notices, runs), ModelCaller(model)


def _measurement(
    name: str, preset: str, shapes: StaticShapes, where: str, notices: list[str], runs: int
) -> Measurement:
    from inf2kit.bench.machine import describe_processor
    from inf2kit.bench.tables.samples import Measurement

    return Measurement(
        name=name,
        preset=preset,
        batch_size=shapes.batch_size,
        sequence_length=shapes.sequence_length,
        max_context_length=shapes.max_context_length,
        where=where,
        machine=f"{describe_processor()}, load average {os.getloadavg()[0]:.1f} before",
        measured=dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        version=inf2kit.__version__,
        runs=runs,
        notices=notices,
    )


def _packaged_preset(directory: Path) -> str:
    """Return the preset that a model package was made for; empty for another folder."""
    import json

    from inf2kit.serving.model_dir import MANIFEST

    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["preset"]["name"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _new_folder(output: Path | None, name: str) -> Path:
    """Return the folder for the results, which must not have any yet.

    Raises:
        click.UsageError: it has results of another run.
    """
    from inf2kit.bench.tables.output import RESULT

    stamp = dt.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = output or Path(f"tables-{name or 'model'}-{stamp}")
    if (folder / RESULT).exists():
        raise click.UsageError(f"{folder} has the results of another run; give another --output")
    return folder
