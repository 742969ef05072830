"""Writes docs/performance.md, so that no figure in it was typed by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from benchmarks.report import Report, machine

_HEAD = """# Performance

Written by `make bench-docs`; do not edit. Measured on {date} on one machine: {machine}.
SmolLM2-135M in float32, the whole stack on the same cores as its callers; medians of {runs} runs or more, except for
memory and the profile, which are one sample each. A ratio is the
median of ratios of samples taken beside each other in one round. Tokens per second count new tokens only.
Nothing here says anything about a Neuron device.
"""

_NOTES = {
    "engine's own": """What the engine adds to every step of a device: choosing the tokens, their text, the rows' rules. The
yardstick is the step that the blog post's tables give for Llama 2 7B at 4 rows, 7.1 ms.""",
    "prefills between": """`INF2KIT_PREFILLS_PER_STEP`: more prefills between two steps fill the rows sooner, fewer let running
rows wait less. A prefill takes at most 256 tokens here, of one prompt or of several. The default is 1.""",
    "where a decode": """A step must read every weight once; the roofline is that, at the bandwidth that a plain sum over 400 MB
reaches with the same threads. Linear layers have their weights packed by oneDNN (`engine/backend/packing.py`), projections
of the same input are computed as one.""",
    "perplexity": """`"overflow": "sinks"`: when a row is full, its first 4 tokens and the most recent ones, half a row
together, are encoded anew and the text goes on. The cost is one prefill of half a row for every half row of new tokens,
during which other rows wait as for any prompt; what lies between is forgotten. As the window is encoded anew and not
cut out of the cache, truncation without sinks hardly differs: its own first tokens become the sinks.""",
    "one token, one": """Each line is the whole way from that hop on; the differences are the hops.""",
    "load": """A closed loop: each caller sends its next call when the last one is answered. 8 rows and a queue of 32: beyond
40 callers the rest is refused with 429.""",
}


def write(report: Report, path: Path, runs: int) -> None:
    """The note, a section for each section of the report."""
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    parts = [_HEAD.format(date=today.isoformat(), machine=machine(), runs=runs)]
    for title in report.sections:
        note = next((text for start, text in _NOTES.items() if title.startswith(start)), "")
        parts.append(
            f"## {title[0].upper()}{title[1:]}\n\n{note}\n\n{report.markdown(title)}\n".replace(
                "\n\n\n", "\n"
            )
        )
    path.write_text("\n".join(parts), encoding="utf-8")
