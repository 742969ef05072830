"""``inf2kit verify-device``."""

from __future__ import annotations

from pathlib import Path

import click

from inf2kit import catalog
from inf2kit.cli.output import print_table, step_printer
from inf2kit.verify.questions import questions as known_questions


@click.command("verify-device")
@click.option(
    "--report", type=click.Path(path_type=Path), default=Path("device-report.json"), show_default=True
)
@click.option(
    "--tensor-parallel-size",
    type=click.Choice([str(size) for size in catalog.TENSOR_PARALLEL_SIZES]),
    default="2",
    show_default=True,
    help="NeuronCores; two are those of one device.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
@click.option("--questions", is_flag=True, help="Only list what nobody has looked at on a device.")
def verify_device(report: Path, tensor_parallel_size: str, dtype: str, questions: bool) -> None:
    """Answer on a Neuron device what can be answered nowhere else, and write a report.

    Runs inside the endpoint's image, or on a machine image for Neuron, on any inf2 instance: compiles a small
    random model, nothing is fetched. Takes some minutes. The report closes each open question by its name.
    """
    if questions:
        print_table([("QUESTION", "WHAT IS NOT KNOWN"), *known_questions().items()])
        return
    from inf2kit.verify.runner import verify

    step = step_printer()
    made = verify(int(tensor_parallel_size), dtype, step)
    print_table(made.rows())
    made.write(report)
    left = made.open_questions()
    if made.simulated:
        click.echo("simulated: there was no Neuron device, so no question is answered", err=True)
    answered = len(known_questions()) - len(left)
    click.echo(f"{report}: {answered} of {len(known_questions())} questions answered")
