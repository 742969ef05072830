"""What ``make docs`` builds from: each page has a place, and a link to nowhere is an error."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit.serving import variables

ROOT = Path(inf2kit.__file__).parents[1]


def load(name: str) -> dict[str, Any]:
    """The names of a file of docs/site."""
    return runpy.run_path(str(ROOT / "docs/site" / name))


def test_every_page_is_staged(tmp_path: Path) -> None:
    """A page without a place in the sidebar ends the process, and so the test."""
    load("stage.py")["stage"](tmp_path / "pages")
    staged = {str(path.relative_to(tmp_path / "pages")) for path in tmp_path.rglob("*.md")}
    assert {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} < staged
    assert "[](docs/client.md" in (tmp_path / "pages/index.md").read_text(encoding="utf-8")


def test_every_variable_is_on_its_page_with_its_range() -> None:
    """The names that the code has, and the ranges that it checks."""
    page = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "inf2kit").rglob("*.py"))
    names = {name for name in re.findall(r"\bINF2KIT_[A-Z_]*[A-Z]\b", code) if f"{name}_" not in code}
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in page} == set()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `INF2KIT_")}
    checked = set(rows) & set(variables.NUMBERS)
    assert len(checked) > 4
    for name in checked:
        limits = (f"{variables.NUMBERS[name].high:,.0f}", "at most the preset's")
        assert any(limit in rows[name] for limit in limits), f"{name}: {variables.NUMBERS[name]}"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="gone.html">', "page.html links to gone.html, which is not there"),
        (
            '<a href="other.html#gone">',
            "page.html links to other.html#gone, and that page has no such anchor",
        ),
        (
            '<script src="https://cdn.example/x.js">',
            "page.html loads https://cdn.example/x.js, which an offline reader has not",
        ),
    ],
)
def test_links_of_the_built_site(tmp_path: Path, body: str, sentence: str | None) -> None:
    (tmp_path / "page.html").write_text(body, encoding="utf-8")
    (tmp_path / "other.html").write_text('<h2 id="here">', encoding="utf-8")
    assert load("links.py")["mistakes"](tmp_path) == ([sentence] if sentence else [])
