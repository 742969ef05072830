"""The page of figures is written from the samples that are there; other sections stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import documents
from benchmarks.report import Report, Row

PAGE = """# Performance

## One caller, 128 tokens in and 64 out

Measured on 2026-01-01: another machine.

| | median | ratio | |
|---|---|---|---|
| raw generate, batch of 1 | 12.8 tokens/s |  |  |

## The client, per call

An older note.

Measured on 2026-01-02: a third machine.

| | median | ratio | |
|---|---|---|---|
| boto3, invoke_endpoint and JSON | 0.5 ms |  |  |
"""


def measure(title: str) -> None:
    with Report().section(title) as rows:
        rows.append(Row("inf2kit", [3.0, 1.0, 2.0], "ms"))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "performance.md"
    page.write_text(PAGE, encoding="utf-8")
    return page


def test_a_measured_section_is_written_and_the_others_stay(page: Path) -> None:
    measure("the client, per call")
    measure("8 callers, 128 tokens in and 64 out")
    documents.write(page)
    text = page.read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## 8 callers, 128 tokens in and 64 out",
        "## One caller, 128 tokens in and 64 out",
        "## The client, per call",
    ]
    assert "Measured on 2026-01-01: another machine." in text
    assert "| raw generate, batch of 1 | 12.8 tokens/s |  |  |" in text
    assert "a third machine" not in text
    assert "An older note" not in text
    assert text.count("| inf2kit | 2.0 ms |  |  |") == 2
    documents.write(page)
    assert page.read_text(encoding="utf-8") == text, "writing again changes nothing"


def test_a_section_without_a_note_is_an_error(page: Path) -> None:
    measure("a part that nobody has described")
    with pytest.raises(SystemExit, match="is for 'A part that nobody has described'"):
        documents.write(page)
    assert page.read_text(encoding="utf-8") == PAGE
