"""``python -m benchmarks.pictures``: pictures of the documents, from a trace and from measured figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inf2kit.bench import charts
from inf2kit.rehearsal import model
from inf2kit.serving.engine.backend import PrefillChunk, StepOutput
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path("docs/pictures")
_PAGE = Path("docs/performance.md")
_ROWS = 4
#: Each text: the step at which it arrives, its prompt's tokens and its new tokens.
TEXTS = (
    (0, 20, 30),
    (0, 40, 12),
    (2, 30, 22),
    (5, 90, 40),
    (6, 20, 8),
    (8, 300, 26),
    (14, 40, 34),
    (16, 20, 14),
    (30, 60, 20),
    (44, 20, 16),
)
#: The dark look is a prefill, the light ones are texts in turn.
_PREFILL, *_TEXT = (charts.LOOKS[0], charts.LOOKS[3], charts.LOOKS[1], charts.LOOKS[5])


@dataclass
class Bar:
    """What a row did for some steps."""

    row: int
    text: int
    began: int
    ended: int
    is_prefill: bool = False


@dataclass
class Trace:
    """What happened at each step, a prefill or a decode step of the backend."""

    bars: list[Bar] = field(default_factory=list)
    steps: int = 0
    #: The texts that hold rows, in the order in which they got them.
    started: int = 0
    texts: dict[int, int] = field(default_factory=dict)

    def add(self, row: int, *, is_prefill: bool) -> None:
        """Let a row work for the step that has just begun, and lengthen its last bar if that is the same."""
        text = self.texts[row]
        same = [bar for bar in self.bars if (bar.row, bar.text, bar.is_prefill) == (row, text, is_prefill)]
        if same and same[-1].ended == self.steps:
            same[-1].ended += 1
        else:
            self.bars.append(Bar(row, text, self.steps, self.steps + 1, is_prefill))


class NoText(TokenDecoder):
    """No text is needed."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return nothing."""
        return ""


class TracingBackend(CpuBackend):
    """The CPU backend, with a record of its calls."""

    trace: Trace

    def prefill(self, chunks: Sequence[PrefillChunk]) -> StepOutput:
        """Record the rows of a prefill."""
        for chunk in chunks:
            if chunk.row not in self.trace.texts:
                self.trace.texts[chunk.row] = self.trace.started
                self.trace.started += 1
            self.trace.add(chunk.row, is_prefill=True)
        self.trace.steps += 1
        return super().prefill(chunks)

    def decode(self, rows: Sequence[int], ids: Sequence[int]) -> StepOutput:
        """Record the rows of a decode step."""
        for row in rows:
            self.trace.add(row, is_prefill=False)
        self.trace.steps += 1
        return super().decode(rows, ids)

    def release(self, row: int) -> None:
        """Record that a row is free."""
        self.trace.texts.pop(row, None)
        super().release(row)


@torch.inference_mode()
def trace_the_scheduler() -> Trace:
    """Run the scheduler above the embedded model on the CPU, and return what its rows did."""
    backend = TracingBackend(model.prepare(), StaticShapes.resolve(_ROWS, 512), "float32")
    backend.trace = trace = Trace()
    backend.load()
    scheduler = Scheduler(backend, NoText(), frozenset(), queue_size=len(TEXTS))
    coming = list(TEXTS)
    while coming or scheduler.unfinished:
        while coming and (coming[0][0] <= trace.steps or not scheduler.unfinished):
            _, prompt_tokens, new_tokens = coming.pop(0)
            scheduler.submit([_request(prompt_tokens, new_tokens)])
        scheduler.step()
    return trace


def _request(prompt_tokens: int, new_tokens: int) -> Request:
    def fail(error: Exception) -> None:
        raise error

    return Request(
        prompt_ids=list(range(100, 100 + prompt_tokens)),
        parameters=Parameters(max_new_tokens=new_tokens, ignore_eos=True),
        max_new_tokens=new_tokens,
        deadline=math.inf,
        on_token=lambda *_: None,
        on_end=lambda *_: None,
        on_error=fail,
    )


def static_batches() -> Trace:
    """The same texts in static batches: each starts when its texts are there, and ends with its longest."""
    trace, texts = Trace(), list(enumerate(TEXTS))
    for batch in (texts[first : first + _ROWS] for first in range(0, len(texts), _ROWS)):
        began = max(trace.steps, max(arrival for _, (arrival, _, _) in batch))
        for row, (text, (_, _, new_tokens)) in enumerate(batch):
            trace.bars.append(Bar(row, text, began, began + 1, is_prefill=True))
            trace.bars.append(Bar(row, text, began + 1, began + new_tokens))
        trace.steps = began + max(new_tokens for _, (_, _, new_tokens) in batch)
    return trace


def draw_batch(path: Path) -> None:
    """Draw how the rows of a batch fill up and are used again, beside static batches."""
    trace, static = trace_the_scheduler(), static_batches()
    lengths = [new_tokens for *_, new_tokens in TEXTS]
    notice = (
        f"Above: a trace of the scheduler with the embedded model (SmolLM2-135M) on a CPU, {_ROWS} rows, "
        f"{len(TEXTS)} texts of {min(lengths)} to {max(lengths)} new tokens, which arrive one after the "
        "other. Below: computed, for the same texts. A step is a prefill or a decode step; how long each "
        "takes is not shown."
    )
    with charts.chart("A row is free as soon as its text is done", panels=2, notice=notice) as (
        figure,
        (above, below),
    ):
        steps = max(trace.steps, static.steps)
        prefills = "steps; dark: a prompt's prefill, white: others wait for it"
        _draw_rows(above, trace, f"continuous batching: {trace.steps} steps", prefills, steps)
        title = f"static batches: {static.steps} steps"
        _draw_rows(below, static, title, "steps; white: rows wait for the longest text", steps)
        (svg,) = [each for each in charts.save(figure, path) if each.suffix == ".svg"]
        svg.with_suffix(".png").unlink()


def _draw_rows(axes: Axes, trace: Trace, title: str, x_label: str, steps: int) -> None:
    for bar in trace.bars:
        look = _PREFILL if bar.is_prefill else _TEXT[bar.text % len(_TEXT)]
        axes.barh(
            bar.row,
            bar.ended - bar.began,
            left=bar.began,
            height=0.8,
            color=look.colour,
            edgecolor="black",
            linewidth=0.6,
        )
    for text in {bar.text for bar in trace.bars}:
        longest = max(
            (bar for bar in trace.bars if bar.text == text and not bar.is_prefill),
            key=lambda bar: bar.ended - bar.began,
        )
        axes.annotate(
            str(text + 1),
            ((longest.began + longest.ended) / 2, longest.row),
            ha="center",
            va="center",
            fontsize=10,
        )
    axes.set_title(title)
    axes.grid(visible=False)
    axes.set_xlim(0, steps)
    axes.set_ylim(_ROWS - 0.4, -0.6)
    axes.set_yticks(range(_ROWS), [f"row {row + 1}" for row in range(_ROWS)])
    axes.set_xlabel(x_label)


def draw_speed(path: Path) -> None:
    """Draw the first tables of docs/performance.md, those of greedy search: the speed of each server."""
    text = _PAGE.read_text(encoding="utf-8")
    sections = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    greedy = [(title, section) for title, section in sections if "temperature" not in title][:3]
    tables = [
        (title, re.findall(r"^\| ((?:(?!, against)[^|])+?) \| ([\d.,]+) tokens/s \|", section, re.MULTILINE))
        for title, section in greedy
    ]
    machine = re.search(r"Measured on ([\d-]+): (.*)\.\n", greedy[0][1])
    if machine is None:
        raise SystemExit(f"{_PAGE} does not say on which machine and when it was measured")
    notice = f"SmolLM2-135M in float32 on {machine[2]}, {machine[1]}; medians. Not from a Neuron device."
    with charts.chart("New tokens a second on two CPU cores", panels=len(tables), notice=notice) as (
        figure,
        panels,
    ):
        for axes, (title, rows) in zip(panels, tables, strict=True):
            for place, (name, speed) in enumerate(rows):
                look = charts.LOOKS[0] if name.startswith("inf2kit") else charts.LOOKS[5]
                axes.barh(place, float(speed), color=look.colour, edgecolor="black", linewidth=0.8)
                axes.annotate(f" {speed}", (float(speed), place), va="center", fontsize=9)
            axes.set_yticks(range(len(rows)), [_shortened(name) for name, _ in rows])
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.set_xlim(0, 1.2 * max(float(speed) for _, speed in rows))
            axes.grid(visible=False)
            axes.set_title(title.partition(",")[0], fontsize=11)
        (svg,) = [each for each in charts.save(figure, path) if each.suffix == ".svg"]
        svg.with_suffix(".png").unlink()


def _shortened(name: str) -> str:
    return name.partition(",")[0].replace("toolkit's stock way", "stock toolkit").replace("raw ", "")


def main() -> None:
    """Draw both."""
    FOLDER.mkdir(exist_ok=True)
    draw_batch(FOLDER / "batch")
    draw_speed(FOLDER / "speed")
    print(f"wrote {FOLDER}/batch.svg and speed.svg")


if __name__ == "__main__":
    main()
