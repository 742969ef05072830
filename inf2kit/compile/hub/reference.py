"""What people write for a model of the hub: its name, its name with a revision, the address of its page."""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import CompileError

_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
#: A part of a name, by the hub's rules.
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?")
#: What follows a model's name in the address of one of its pages, before the revision.
_PAGES = ("tree", "blob", "resolve", "commit", "raw")
_EXAMPLE = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"


@dataclass(frozen=True)
class ModelReference:
    """A model and its revision, as the hub's client takes them.

    Attributes:
        model: ``OWNER/NAME`` on the hub, or a folder.
        revision: A commit, branch or tag; None where none was given.
    """

    model: str
    revision: str | None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> ModelReference:
        """Read a folder, ``OWNER/NAME``, ``OWNER/NAME@REVISION`` or the address of a model's page.

        Args:
            text: What the user wrote.
            revision: The revision that the user gave apart from it.

        Raises:
            CompileError: the text names no model, or two revisions contradict each other.
        """
        if revision is not None and not revision.strip():
            raise CompileError("--revision is empty; give a branch, a tag or a commit")
        try:
            is_folder, is_file = Path(text).is_dir(), Path(text).is_file()
        except (OSError, ValueError):  # longer than any path, or with a null byte
            is_folder = is_file = False
        if text and is_folder:
            return cls(text, revision)
        if is_file:
            raise CompileError(f"{text} is a file; give the folder that holds it")
        name, in_text = _split(text.strip())
        if in_text and revision and in_text != revision:
            raise CompileError(f"{text!r} has the revision {in_text}, and --revision is {revision}; give one")
        parts = name.split("/")
        if len(parts) > 2 or not all(_PART.fullmatch(part) and _is_plain(part) for part in parts):
            raise CompileError(
                f"{text!r} is neither a folder on this machine nor the name of a model on the Hugging Face "
                f"hub; a name is OWNER/NAME, such as {_EXAMPLE}"
            )
        return cls(name, in_text or revision)


def _split(text: str) -> tuple[str, str | None]:
    """Split what the user wrote into a name and a revision."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        host, _, path = text.partition("/")
        if host.lower() in _HOSTS:
            return _split_page(path, text)
        name, at, revision = text.partition("@")
        if at and not revision:
            raise CompileError(f"{text!r} ends in '@'; a branch, a tag or a commit follows it")
        _refuse_other_kinds(name, text)
        return name, revision or None
    if scheme == "hf":
        return _split(rest)
    own = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc
    url = urllib.parse.urlsplit(text)
    if scheme not in ("http", "https") or url.netloc.lower() not in (*_HOSTS, own.lower()):
        raise CompileError(
            f"{text!r} is not an address of the Hugging Face hub; give OWNER/NAME, such as {_EXAMPLE}, or a "
            "folder"
        )
    return _split_page(url.path.strip("/"), text)


def _split_page(path: str, text: str) -> tuple[str, str | None]:
    """Split the path of a page, such as ``OWNER/NAME/tree/REVISION``."""
    path = urllib.parse.urlsplit(path).path.strip("/")
    _refuse_other_kinds(path, text)
    parts = path.split("/")
    page = next((index for index in (1, 2) if len(parts) > index and parts[index] in _PAGES), None)
    if page is None:
        return path, None
    if len(parts) == page + 1:
        raise CompileError(f"{text!r} ends before its revision; give OWNER/NAME")
    return "/".join(parts[:page]), urllib.parse.unquote(parts[page + 1])


def _refuse_other_kinds(name: str, text: str) -> None:
    kind = name.partition("/")[0]
    if kind in ("datasets", "spaces"):
        raise CompileError(f"{text!r} is a {kind[:-1]} of the Hugging Face hub; give a model, OWNER/NAME")


def _is_plain(part: str) -> bool:
    return "--" not in part and ".." not in part and not part.endswith(".git")
