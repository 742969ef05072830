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
        type=float,
        metavar="SECONDS",
        help="measure a local endpoint on this machine first, so many seconds for each load",
    )
    options = parser.parse_args()
    if options.rehearsal:
        rehearsal.measure(options.rehearsal, lambda phrase: print(phrase, file=sys.stderr))
    seconds, calls = sensitivity.speed()
    print(f"{calls:,} calls simulated in {seconds:.2f} s")
    comparisons = validation.compare_all(lambda phrase: print(phrase, file=sys.stderr))
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


if __name__ == "__main__":
    main()
