"""The code blocks of the documents: each is run by a test, or the comment above it says why not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import inf2kit

ROOT = Path(inf2kit.__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
#: The tests that run blocks, and the pages and languages whose blocks they run, all that have no comment.
RUNNERS = {
    "tests/integration/endpoint/test_documents.py": {
        ("README.md", "python"),
        ("README.md", "console"),
        ("docs/client.md", "python"),
        ("docs/client.md", "console"),
        ("docs/wire.md", "json"),
    },
    "tests/integration/cloud/test_documents.py": {
        ("docs/compiling.md", "console"),
        ("docs/compiling.md", "python"),
        ("docs/deploying.md", "python"),
        ("docs/deploying.md", "console"),
        ("docs/deploying.md", "sh"),
        ("docs/doctor.md", "console"),
        ("docs/models.md", "console"),
        ("docs/permissions.md", "console"),
        ("docs/planning.md", "console"),
        ("docs/rehearsing.md", "console"),
    },
    "tests/integration/cdk/test_permission_docs.py": {("docs/permissions.md", "json")},
    "tests/integration/clients/test_clients.py": {("docs/clients.md", "python"), ("docs/clients.md", "bash")},
}
_FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Its page, from the top of the repository.
        line: The line of its fence.
        language: What stands after the fence.
        code: What is between the fences.
        note: The comment above it: ``not run: why``, or ``run by tests/...``; None without one.
    """

    page: str
    line: int
    language: str
    code: str
    note: str | None

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"

    @property
    def is_skipped(self) -> bool:
        """Whether the runner of its page passes it over."""
        return self.note is not None and self.note.startswith(("not run: ", "run by "))

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console, each with the output that the page shows, or nothing."""
        parts = re.split(r"^\$ ", self.code, flags=re.MULTILINE)[1:]
        pairs = []
        for part in parts:
            command = re.match(r"(?:[^\n]*\\\n)*[^\n]*\n", part)
            assert command, part
            pairs.append((command[0].strip(), part[command.end() :]))
        return pairs


def read_blocks(page: str) -> list[Block]:
    """Read the blocks of a page, without its diagrams."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        Block(
            page, 1 + text.count("\n", 0, match.start("language")), *match.group("language", "code", "note")
        )
        for match in _FENCE.finditer(text)
    ]
    return [block for block in blocks if block.language != "mermaid"]


def blocks_to_run(runner: str, page: str, language: str) -> list[Block]:
    """The blocks of a page that a runner has to run; ``runner`` is its ``__file__``.

    Raises:
        AssertionError: ``RUNNERS`` says that another test runs them.
    """
    assert (page, language) in RUNNERS[str(Path(runner).relative_to(ROOT))]
    return [block for block in read_blocks(page) if block.language == language and not block.is_skipped]


def replace_all(text: str, values: Mapping[str, str]) -> str:
    """Put what a page's placeholders stand for into a command."""
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def run_in_shell(
    command: str,
    environment: Mapping[str, str],
    cwd: Path,
    *,
    stdin: str = "",
    statuses: Iterable[int] = (0,),
) -> str:
    """Run a command as a user's shell does, and return what it printed to both."""
    result = subprocess.run(
        ["/bin/bash", "-c", command],
        env=dict(environment),
        cwd=cwd,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode in set(statuses), f"$ {command}\n{result.stdout}"
    assert "Traceback" not in result.stdout, f"$ {command}\n{result.stdout}"
    return result.stdout
