"""The document has every metric with its formula, and every check."""

from __future__ import annotations

import re
from pathlib import Path

from inf2kit.bench.load import checks
from inf2kit.bench.load.metrics import METRICS

DOCUMENT = Path(__file__).parents[4] / "docs" / "measuring.md"


def metrics_table() -> str:
    """The table of metrics, as it stands in the document."""
    rows = [f"| `{tag}` | {metric.unit} | {metric.formula} |" for tag, metric in METRICS.items()]
    return "\n".join(["| metric | unit | formula |", "|---|---|---|", *rows])


def test_the_document_has_every_metric() -> None:
    match = re.search(
        "<!-- metrics: begin -->\n\n(.*)\n\n<!-- metrics: end -->", DOCUMENT.read_text("utf-8"), re.S
    )
    assert match
    assert match[1] == metrics_table()


def test_the_document_has_every_check() -> None:
    text = DOCUMENT.read_text("utf-8").partition("### Checks")[2].partition("###")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert re.findall("`(.+?)`", "".join(rows)) == list(checks._CHECKS)
