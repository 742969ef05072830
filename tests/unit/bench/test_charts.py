"""Charts are files that anyone can read, and figures of a page that do not disturb each other."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from inf2kit.bench import charts

pytest.importorskip("matplotlib")


def _draw(title: str) -> str:
    with charts.chart(title, notice="simulated") as (figure, (axes,)):
        charts.draw_bars(axes, ["256", "512"], {"a": [1.0, None], "b & c": [2.0, 3.0]}, "tokens", "seconds")
        return charts.svg(figure)


def test_both_files_are_written_and_can_be_read(tmp_path: Path) -> None:
    with charts.chart("Latency", panels=2) as (figure, panels):
        for axes in panels:
            charts.draw_lines(axes, {"p50": [(1, 2.0), (2, 3.0)]}, "callers", "seconds")
        files = charts.save(figure, tmp_path / "latency")
    assert [path.name for path in files] == ["latency.png", "latency.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    root = ET.parse(files[1]).getroot()  # noqa: S314 - it is our own
    assert (root.tag, root.get("aria-label")) == ("{http://www.w3.org/2000/svg}svg", "Latency")


def test_two_charts_of_one_page_share_no_id() -> None:
    ids = [set(re.findall(r'\bid="([^"]*)"', _draw(title))) for title in ("One", 'Two "quoted" < three')]
    assert all(ids)
    assert not ids[0] & ids[1]


def test_every_reference_of_a_chart_has_its_target() -> None:
    element = _draw("One")
    references = re.findall(r'(?:url\(#|href="#)([^")]*)', element)
    assert references
    assert set(references) <= set(re.findall(r'\bid="([^"]*)"', element))


def test_the_same_chart_is_the_same_text() -> None:
    assert _draw("One") == _draw("One")


def test_a_chart_leaves_the_settings_of_others_alone() -> None:
    import matplotlib as mpl

    before = mpl.rcParams["font.size"], mpl.get_backend()
    _draw("One")
    assert (mpl.rcParams["font.size"], mpl.get_backend()) == before


def test_neighbours_differ_in_grey() -> None:
    def grey(colour: str) -> float:
        red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    greys = [grey(look.colour) for look in charts.LOOKS]
    assert all(abs(a - b) > 0.2 for a, b in itertools.pairwise(greys))
    assert len({(look.hatch, look.marker) for look in charts.LOOKS}) == len(charts.LOOKS)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5123, "0.512"), (7.061, "7.06"), (31.66, "31.7"), (749.6, "750"), (1240.2, "1,240")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert charts.short(value) == text
