"""``inf2kit verify-device``."""

from __future__ import annotations

from pathlib import Path

import click

from inf2kit import catalog
from inf2kit.cli.output import print_table, step_printer
from inf2kit.verify.report import load_questions


@click.command("verify-device", short_help="Answer what only a Neuron device can answer.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    default=Path("device-report.json"),
    show_default=True,
    help="The file of the report.",
)
@click.option(
    "--tensor-parallel-size",
    type=click.Choice([str(size) for size in catalog.TENSOR_PARALLEL_SIZES]),
    default="2",
    show_default=True,
    help="NeuronCores to split the model over; one device has two.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="The precision of weights and arithmetic.",
)
@click.option("--questions", is_flag=True, help="List the open questions and exit.")
def verify_device(report_file: Path, tensor_parallel_size: str, dtype: str, questions: bool) -> None:
    """Answer the questions that only a Neuron device can answer, and write a report.

    Run it on any inf2 instance, inside the endpoint's image or on a machine image for Neuron. It compiles a
    small random model, fetches nothing, and takes some minutes.
    """
    if questions:
        print_table([("QUESTION", "WHAT IS NOT KNOWN"), *load_questions().items()])
        return
    from inf2kit.verify.runner import verify

    # The report is written after a long run.
    if not report_file.parent.is_dir() or report_file.is_dir():
        raise click.BadParameter(f"{report_file} cannot be a file; choose another --report")
    report = verify(int(tensor_parallel_size), dtype, step_printer())
    print_table(report.rows())
    report.write(report_file)
    if report.simulated:
        click.echo("simulated: there was no Neuron device, so no question is answered", err=True)
    answered = len(load_questions()) - len(report.open_questions())
    click.echo(f"{report_file}: {answered} of {len(load_questions())} questions answered")
