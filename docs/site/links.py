"""Check the links of the built site: each leads to a file, and to an anchor that is there if it names one."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser would load by itself, so that no page may have it from another host.
_LOADED = {"img": "src", "script": "src", "iframe": "src", "link": "href"}


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the link or the anchor that a tag is."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif values.get(_LOADED.get(tag, "")):
            self.loaded.append(values[_LOADED[tag]])


def mistakes(site: Path) -> list[str]:
    """Return a sentence for each link of a site that leads nowhere, and for what is loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    sentences = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    sentences.append(f"{name} loads {link}, which an offline reader has not")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                sentences.append(f"{name} links to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                sentences.append(f"{name} links to {link}, and that page has no such anchor")
    return sentences


if __name__ == "__main__":
    sys.exit("\n".join(mistakes(Path(sys.argv[1]))) or None)
