"""Write what Sphinx reads: the pages as they lie in the repository, those made from the code, and the order.

The pages stay good on GitHub: their links are the repository's, so they are copied to where they lie there.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Captions of the sidebar, and below each its pages, some with a shorter name. A page of docs/ that is in
#: none of them fails the build.
SIDEBAR: dict[str, dict[str, str]] = {
    "Tutorials": {
        "notebooks/01-rehearse": "1. Rehearse on this machine",
        "notebooks/02-deploy-llama": "2. Deploy Llama 2",
        "notebooks/03-benchmark": "3. Measure",
        "notebooks/04-plan": "4. Plan capacity and cost",
        "notebooks/05-asynchronous": "5. Long texts, scale to zero",
        "notebooks/06-bring-your-handler": "6. Your own handler",
    },
    "How to": {
        "docs/rehearsing": "Rehearse a deployment",
        "docs/models": "Choose a model",
        "docs/compiling": "Compile for Neuron",
        "docs/doctor": "Check before, clean up after",
        "docs/permissions": "Give permissions",
        "docs/deploying": "Deploy, scale, update",
        "docs/client": "Call an endpoint",
        "docs/clients": "Use other clients",
        "docs/measuring": "Measure an endpoint",
        "docs/planning": "Plan capacity and cost",
    },
    "Reference": {
        "reference/sdk": "",
        "reference/errors": "",
        "reference/cli": "",
        "reference/presets": "",
        "docs/wire": "Requests and answers",
        "docs/environment": "",
        "reference/metrics": "",
        "reference/alarms": "",
        "reference/cdk": "",
        "reference/handler": "",
    },
    "Background": {
        "proven": "What is proven, what is not",
        "docs/architecture": "",
        "docs/performance": "",
        "docs/decisions/README": "",
        "CHANGELOG": "",
        "CONTRIBUTING": "",
        "SECURITY": "",
    },
}
#: Where people begin, on the first page.
CARDS = """
::::{grid} 1 2 2 2
:gutter: 2

:::{grid-item-card} See it work
:link: notebooks/01-rehearse
:link-type: doc
An endpoint on this machine: answers, streams, chats, with what they print. No account.
:::

:::{grid-item-card} Deploy
:link: notebooks/02-deploy-llama
:link-type: doc
From `inf2kit doctor` to `cdk destroy`, with what each step prints.
:::

:::{grid-item-card} Call it
:link: docs/client
:link-type: doc
Streams, chats, many prompts, asyncio, errors; or with other projects' clients.
:::

:::{grid-item-card} Know what is proven
:link: proven
:link-type: doc
What tests run, on what, and what nobody has run on AWS or on a device.
:::
::::

"""
#: Sections of the README that the sidebar takes the place of, and the one that is a page of its own.
LEFT_OUT = ("The tree", "More")
PROVEN = "What is proven, and what is not"


def stage(folder: Path) -> None:
    """Write all pages into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sources():
        copy(path, folder / path.relative_to(ROOT))
    known = {page for pages in SIDEBAR.values() for page in pages}
    if homeless := [path.name for path in ROOT.glob("docs/*.md") if f"docs/{path.stem}" not in known]:
        sys.exit(f"docs/site/stage.py: no place in the sidebar for docs/{homeless[0]}; add it to SIDEBAR")
    first, sections = readme()
    (folder / "index.md").write_text(index(first, sections), encoding="utf-8")
    (folder / "proven.md").write_text(sections[PROVEN].removeprefix("#"), encoding="utf-8")
    decisions = folder / "docs/decisions/README.md"
    decisions.write_text(f"{decisions.read_text(encoding='utf-8')}\n{tree('', ['0*'])}", encoding="utf-8")


def sources() -> list[Path]:
    """The files of the repository that are pages, or on one."""
    globs = ("docs/*.md", "docs/decisions/*.md", "docs/pictures/*.svg", "notebooks/*.ipynb")
    tops = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    return [*(path for glob in globs for path in sorted(ROOT.glob(glob))), *(ROOT / name for name in tops)]


def copy(path: Path, target: Path) -> None:
    """Copy a page; links to folders lead to their README, and those to code, which is no page, go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".svg":
        pass
    elif path.suffix == ".ipynb":
        notebook = json.loads(text)
        # Cells have lines that begin with an exclamation mark.
        notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        text = json.dumps(notebook)
    else:
        text = with_links(text, path.parent)
    target.write_text(text, encoding="utf-8")


def with_links(text: str, folder: Path) -> str:
    """Return a page of that folder with links that lead to pages; what is no page is only named."""

    def replace(match: re.Match[str]) -> str:
        label, link, anchor = match.groups()
        path = (folder / link).resolve()
        if path == ROOT / "README.md":
            link = link.replace("README.md", "index.md")
        elif path == ROOT / "notebooks":
            link = f"{link.rstrip('/')}/01-rehearse.ipynb"
        elif path == ROOT / "docs/decisions":
            link = f"{link.rstrip('/')}/README.md"
        elif path not in sources():
            return f"`{path.relative_to(ROOT)}`"
        # A page's path is no name for it here: without a label there is its title.
        return f"[{'' if label == match[2] else label}]({link}{anchor})"

    return re.sub(r"\[([^\]]*)\]\((?!\w+:)([^)#\s]+)([^)\s]*)\)", replace, text)


def readme() -> tuple[str, dict[str, str]]:
    """Return what the README begins with, and its sections by their titles."""
    text = with_links((ROOT / "README.md").read_text(encoding="utf-8"), ROOT)
    first, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    sections = {part.splitlines()[0].removeprefix("## "): part for part in parts}
    if missing := {*LEFT_OUT, PROVEN} - set(sections):
        sys.exit(f"README.md has no section {sorted(missing)}; docs/site/stage.py expects it")
    return first, sections


def index(first: str, sections: dict[str, str]) -> str:
    """Return the first page: the README, with the sidebar in place of its lists of pages."""
    rest = [text for title, text in sections.items() if title not in (*LEFT_OUT, PROVEN)]
    trees = [
        tree(caption, [f"{title} </{page}>" if title else f"/{page}" for page, title in pages.items()])
        for caption, pages in SIDEBAR.items()
    ]
    return "".join([first, CARDS, *rest, *trees])


def tree(caption: str, pages: list[str]) -> str:
    """Return the hidden list of pages that the sidebar shows."""
    options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "```{toctree}", *options, "", *pages, "```", ""])


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
