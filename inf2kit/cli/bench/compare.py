"""``inf2kit bench compare``: do two runs differ by more than chance?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from inf2kit.cli.extras import needs
from inf2kit.cli.output import print_table
from inf2kit.errors import Inf2KitError

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("compare")
@click.argument("first_file", metavar="A.json", type=_FILE)
@click.argument("second_file", metavar="B.json", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@needs("bench")
def compare(first_file: Path, second_file: Path, as_json: bool) -> None:
    """Compare two reports of 'inf2kit bench load', load by load.

    It says how much B differs from A, with a 95 % interval, and whether chance would do that too.
    """
    import scipy  # noqa: F401 - a missing extra is said before the reports are read

    from inf2kit.bench import compare as comparing
    from inf2kit.bench.load.report import Report
    from inf2kit.bench.load.table import MARK

    first, second = Report.read(first_file), Report.read(second_file)
    comparisons = comparing.compare(first, second)
    if not comparisons:
        raise Inf2KitError(
            f"{first_file} and {second_file} have no load in common with enough calls; measure the same "
            "--callers "
            "and --rate in both, with twenty calls or more"
        )
    sentences = comparing.differences(first, second)
    if as_json:
        values = [{**dataclasses.asdict(each), "verdict": each.verdict} for each in comparisons]
        click.echo(json.dumps({"comparisons": values, "notes": sentences}, indent=1))
        return
    rows: list[tuple[str, ...]] = [("LOAD", "METRIC", "A", "B", "CHANGE", "95 %", "P", "")]
    for each in comparisons:
        interval = "-" if each.interval is None else f"{each.interval[0]:+.1%} to {each.interval[1]:+.1%}"
        figures = (f"{each.first:.4g}", f"{each.second:.4g}", f"{each.change:+.1%}")
        rows.append((each.load, each.metric, *figures, interval, f"{each.p_value:.2g}", each.verdict))
    click.echo(f"A: {first_file}, {first.began}: {first.notice}")
    click.echo(f"B: {second_file}, {second.began}: {second.notice}\n")
    print_table(rows)
    click.echo(
        f"\n{len(comparisons)} comparisons; the probability that any difference is shown by chance is at "
        "most "
        f"{comparing.ALPHA:.0%}. What differs may be the hour and not the change: measure A again after B."
    )
    for sentence in sentences:
        click.echo(f"{MARK} {sentence}")
