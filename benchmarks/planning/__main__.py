"""Compare predictions with measurements, and write docs/planning.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.planning import documents, rehearsal, sensitivity, validation


def main() -> None:
    """Run the comparisons: half a minute."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help="write docs/planning.md")
    parser.add_argument(
        "--rehearsal",
        choices=list(rehearsal.ENDPOINTS),
        help="measure a local endpoint first, and do only that",
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load on it (default: 40)")
    options = parser.parse_args()
    if options.rehearsal:
        for cell in rehearsal.measure(options.rehearsal, options.seconds, _progress):
            print(cell.demand, f"{cell.load:.0%}", cell.calls, cell.measured, cell.predicted)
        return
    seconds, calls = sensitivity.speed()
    print(f"{calls:,} calls simulated in {seconds:.2f} s")
    comparisons = validation.compare_all(_progress)
    for each in comparisons:
        cells = (
            " ".join(f"{name} {100 * error:+.1f} %" for name, error in each.errors(base).items())
            for base in ("alone", "loaded", "table")
        )
        print(f"{each.run.label}, {each.run.version}, {each.run.demand}: {' | '.join(filter(None, cells))}")
    if options.write_docs:
        path = Path("docs/planning.md")
        documents.write(path, comparisons, validation.compare_raw())
        print(f"wrote {path}")


def _progress(phrase: str) -> None:
    print(phrase, file=sys.stderr)


if __name__ == "__main__":
    main()
