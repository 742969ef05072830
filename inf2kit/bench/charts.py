"""The look of every chart: legible in grey, on a phone and at 200 %, with a notice of what is simulated.

Series differ in hatch, marker and dash as well as in colour, and their colours differ in lightness. A chart
is one column, as wide as a phone. matplotlib, of the extra ``bench``, is imported with the first chart.
"""

from __future__ import annotations

import io
import re
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches. At 96 pixels an inch that is 460 pixels, which a phone shows at four fifths of its size.
WIDTH, PANEL_HEIGHT = 4.8, 3.2
#: PNGs stay sharp at 200 %.
_DOTS_PER_INCH = 220
_CAPTION_COLUMNS = 66
#: Letters of a series' name that two columns of a legend have room for.
_LEGEND_COLUMNS = 16
#: Labels up to this length stand three in a line.
_SHORT = 6
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": "#d8d8d8",
    "hatch.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    # Letters as outlines: a phone without this font shows the same chart.
    "svg.fonttype": "path",
    "svg.hashsalt": "inf2kit",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


@dataclass(frozen=True)
class Look:
    """What one series looks like."""

    colour: str
    hatch: str
    marker: str
    dash: str


#: From dark to light and back, so that neighbours differ in grey. There are no more series in one chart.
LOOKS = (
    Look("#08306b", "", "o", "-"),
    Look("#fdae61", "///", "s", "--"),
    Look("#2b7bba", "...", "^", "-."),
    Look("#74c476", "xx", "D", ":"),
    Look("#7f2704", "\\\\\\", "v", "-"),
    Look("#bdbdbd", "++", "P", "--"),
)


@contextmanager
def chart(title: str, *, panels: int = 1, notice: str = "") -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure in the shared look and its panels, one below the other.

        with charts.chart("Latency", notice=notice) as (figure, (axes,)):
            charts.draw_lines(axes, {"measured": [(1, 2.3), (2, 4.4)]}, "callers", "seconds")
            charts.save(figure, folder / "latency")

    Draw and save inside the block.

    Args:
        title: What the chart shows; also its text for those who cannot see it.
        panels: Number of panels.
        notice: What is simulated, and how it was measured. It stands below the chart.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    caption = textwrap.fill(notice, _CAPTION_COLUMNS)
    lines = caption.count("\n") + 1 if caption else 0
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * panels + 0.17 * lines + 0.3), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(textwrap.fill(title, 42), fontsize=13, fontweight="bold", x=0.02, ha="left")
        figure.set_label(title)
        if caption:
            figure.supxlabel(caption, fontsize=9, x=0.02, ha="left")
        yield figure, list(figure.subplots(panels, 1, squeeze=False)[:, 0])


def draw_bars(
    axes: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
) -> None:
    """Draw grouped bars with their values above them.

    Args:
        axes: Where to draw.
        groups: The labels below the groups.
        series: A value for each group, by the names for the legend; None leaves a gap.
        x_label: What the groups are.
        y_label: What the values are, with their unit.
    """
    width = 0.84 / max(len(series), 1)
    top = max((value for values in series.values() for value in values if value is not None), default=1.0)
    # Many narrow bars have their values written upwards.
    is_narrow = len(series) > 2
    for number, (name, values) in enumerate(series.items()):
        look = LOOKS[number % len(LOOKS)]
        places = [group + (number - (len(series) - 1) / 2) * width for group in range(len(groups))]
        axes.bar(
            places,
            [value or 0.0 for value in values],
            width,
            label=name,
            color=look.colour,
            edgecolor="black" if look.hatch else look.colour,
            hatch=look.hatch,
            linewidth=0.8,
        )
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                "-" if value is None else short(value),
                (place, value or 0.0),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9,
                rotation=90 if is_narrow else 0,
            )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(0, top * (1.28 if is_narrow else 1.15))
    _label(axes, x_label, y_label, len(series))


def draw_lines(
    axes: Axes, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str
) -> None:
    """Draw lines through points.

    Args:
        axes: Where to draw.
        series: Points, by the names for the legend.
        x_label: What the first number of a point is, with its unit.
        y_label: What the second one is.
    """
    for number, (name, points) in enumerate(series.items()):
        look = LOOKS[number % len(LOOKS)]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=name,
            color=look.colour,
            marker=look.marker,
            linestyle=look.dash,
            markeredgecolor="black",
            markeredgewidth=0.8,
        )
    _label(axes, x_label, y_label, len(series))


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a chart as PNG and as SVG, inside the block of ``chart``.

    Args:
        figure: The chart.
        path: The files' path, without a suffix.

    Returns:
        The paths of both files.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DOTS_PER_INCH)
    files = {
        ".png": png.getvalue(),
        ".svg": b'<?xml version="1.0" encoding="utf-8"?>\n' + svg(figure).encode(),
    }
    for suffix, content in files.items():
        path.with_name(path.name + suffix).write_bytes(content)
    return [path.with_name(path.name + suffix) for suffix in files]


def svg(figure: Figure) -> str:
    """Return a chart as an SVG element for a page, inside the block of ``chart``.

    It is as wide as the page allows, and its title is read out.
    """
    from xml.sax.saxutils import quoteattr

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Title": str(figure.get_label())})
    _, _, element = stream.getvalue().partition("<svg ")
    # A page may have several charts, whose ids must differ.
    prefix = f"c{zlib.crc32(element.encode()):x}-"
    element = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\1{prefix}", element)
    style = 'style="max-width:100%;height:auto"'
    return f'<svg role="img" aria-label={quoteattr(str(figure.get_label()))} {style} {element}'


def short(value: float) -> str:
    """Return a number with three digits: ``0.512``, ``7.06``, ``31.7``, ``750``, ``1,240``."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _label(axes: Axes, x_label: str, y_label: str, series: int) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if series > 1:
        # Above the panel, where it covers nothing; a legend wider than the panel would make that narrow.
        legend: dict[str, Any] = {"columnspacing": 1.0, "handlelength": 1.6, "borderaxespad": 0.2}
        handles, labels = axes.get_legend_handles_labels()
        longest = max(len(str(label)) for label in labels)
        if longest > _LEGEND_COLUMNS:
            legend["fontsize"] = 8.5
        columns = 3 if longest <= _SHORT else 2
        # Read line by line; matplotlib fills column after column.
        order = [place for column in range(columns) for place in range(column, len(labels), columns)]
        axes.legend(
            [handles[place] for place in order],
            [labels[place] for place in order],
            loc="lower left",
            bbox_to_anchor=(-0.1, 1.0),
            ncols=columns,
            **legend,
        )
