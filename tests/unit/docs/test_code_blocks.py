"""Every code block of README.md and docs/ is run by a test, or says why not."""

from __future__ import annotations

import pytest

from tests.helpers.documents import PAGES, ROOT, RUNNERS, Block, read_blocks

BLOCKS = [block for page in PAGES for block in read_blocks(page)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    note = block.note or ""
    if note.startswith("not run: "):
        assert len(note.split()) > 4, "say why, in words that help a reader"
        return
    runner = note.removeprefix("run by ")
    if runner == note:
        runners = [name for name, kinds in RUNNERS.items() if (block.page, block.language) in kinds]
        assert runners, "let a test run it, or write '<!-- not run: why -->' above it"
        (runner,) = runners
    assert (ROOT / runner).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_is_missed(page: str) -> None:
    """A block that is indented, or whose fence is not closed, would not be seen."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = [line for line in text.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    diagrams = fences.count("```mermaid")
    assert len(fences) == 2 * (len(read_blocks(page)) + diagrams)


def test_commands_and_what_they_print() -> None:
    code = "$ one \\\n    --two\n$ three\n  printed\n\nmore\n$ four\n"
    block = Block("page.md", 1, "console", code, None)
    assert block.commands == [("one \\\n    --two", ""), ("three", "  printed\n\nmore\n"), ("four", "")]
