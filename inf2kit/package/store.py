"""Where packages lie: the contract of a store, and a folder as one. ``s3`` holds the other."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.packaged import MANIFEST

_BLOCK = 2**20
#: Told how many bytes more are written.
Sent = Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """A piece of work that may run beside others.

    Attributes:
        size: Bytes it writes.
        run: Does it.
    """

    size: int
    run: Callable[[Sent], None]


@dataclass(frozen=True)
class Stored:
    """A package that is there, whole or not.

    Attributes:
        digest: Its name.
        whole: Whether its manifest is there.
        touched: When something of it was last written.
        size: Bytes of what is there.
    """

    digest: str
    whole: bool
    touched: dt.datetime
    size: int


class Store(ABC):
    """A place for packages, one under each digest."""

    @abstractmethod
    def where(self, digest: str) -> str:
        """The package's place, as people write it."""

    @abstractmethod
    def check_writable(self) -> None:
        """Fail now and not behind an hour of work.

        Raises:
            PackageError: the place is not there, not ours, or in another region.
        """

    @abstractmethod
    def packages(self) -> list[Stored]:
        """What is there, newest first, and what is not whole last."""

    @abstractmethod
    def manifest(self, digest: str) -> bytes | None:
        """The manifest of a package, or None while it is not whole."""

    @abstractmethod
    def present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Those of the files that are there already, whole and the same."""

    @abstractmethod
    def lacking(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Those of the files that are not there in their size: a quick look before a package is whole."""

    @abstractmethod
    def unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """What is there beside the files and the manifest: SageMaker would bring it along."""

    @abstractmethod
    def copy(self, digest: str, name: str, entry: Entry, origin: tuple[str, str]) -> Task:
        """Copying a file of another package, without its bytes coming by here.

        Args:
            digest: Of the package it is for.
            name: Of the file in it.
            entry: Its size and sha256.
            origin: The other package's digest, and the file's name there.
        """

    @abstractmethod
    def write(self, digest: str, files: Mapping[str, tuple[Path, Entry]]) -> Iterable[Task]:
        """Writing files, in pieces that may run side by side."""

    @abstractmethod
    def commit(self, digest: str, content: bytes) -> None:
        """Write the manifest: from now on the package is whole."""

    @abstractmethod
    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """A file, block by block.

        Raises:
            FileNotFoundError: it is not there.
        """

    def abandon(self, digest: str) -> None:  # noqa: B027 - a choice, not an omission
        """After an error: nothing, where the next run goes on from what is there."""

    @abstractmethod
    def delete(self, digest: str) -> None:
        """Remove a package, its manifest first."""


class FolderStore(Store):
    """A folder of this machine.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, digest: str) -> str:
        """The package's folder."""
        return f"{self._folder / digest}/"

    def check_writable(self) -> None:
        """Make the folder, and a file in it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".inf2kit-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise PackageError(
                f"{self._folder} cannot be written to: {error.strerror}; choose another --output"
            ) from None

    def packages(self) -> list[Stored]:
        """By the folders whose name is a digest."""
        found = []
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.is_dir() and DIGEST.fullmatch(path.name):
                facts = [each.stat() for each in path.rglob("*") if each.is_file()] or [path.stat()]
                touched = dt.datetime.fromtimestamp(max(each.st_mtime for each in facts), dt.timezone.utc)
                whole = (path / MANIFEST).exists()
                found.append(Stored(path.name, whole, touched, sum(each.st_size for each in facts)))
        return newest_first(found)

    def manifest(self, digest: str) -> bytes | None:
        """Read from the file."""
        path = self._folder / digest / MANIFEST
        return path.read_bytes() if path.exists() else None

    def present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Those of the right size: a file has its name only when all of it is written."""
        folder = self._folder / digest
        return {
            name
            for name, entry in files.items()
            if (folder / name).is_file() and (folder / name).stat().st_size == entry.size
        }

    def lacking(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """By size."""
        return set(files) - self.present(digest, files)

    def unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """By name."""
        folder = self._folder / digest
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        return found - set(files) - {MANIFEST}

    def copy(self, digest: str, name: str, entry: Entry, origin: tuple[str, str]) -> Task:
        """A copy within the folder's file system."""
        return self._write(digest, name, self._folder / origin[0] / origin[1], entry.size)

    def write(self, digest: str, files: Mapping[str, tuple[Path, Entry]]) -> Iterable[Task]:
        """A task for each file."""
        for name, (path, entry) in files.items():
            yield self._write(digest, name, path, entry.size)

    def _write(self, digest: str, name: str, source: Path, size: int) -> Task:
        def run(sent: Sent) -> None:
            target = self._folder / digest / name
            partial = _partial(target)
            with _one_sentence(self._folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open("rb") as reader, partial.open("wb") as writer:
                    while block := reader.read(_BLOCK):
                        writer.write(block)
                        sent(len(block))
                partial.replace(target)

        return Task(size, run)

    def commit(self, digest: str, content: bytes) -> None:
        """Atomically, by a rename."""
        target = self._folder / digest / MANIFEST
        partial = _partial(target)
        with _one_sentence(self._folder):
            partial.write_bytes(content)
            partial.replace(target)

    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """From the file."""
        with (self._folder / digest / name).open("rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def abandon(self, digest: str) -> None:
        """Nothing half-made stays: writing here is quick, and room may be what was missing."""
        # Somebody else may have made the same package meanwhile.
        if not (self._folder / digest / MANIFEST).exists():
            shutil.rmtree(self._folder / digest, ignore_errors=True)

    def delete(self, digest: str) -> None:
        """The manifest first, so that a half-deleted package never looks whole."""
        (self._folder / digest / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder / digest)


@contextmanager
def _one_sentence(folder: Path) -> Iterator[None]:
    """Turns an OSError into what a user needs to know."""
    try:
        yield
    except OSError as error:
        raise PackageError(
            f"{error.filename or folder} cannot be written: {error.strerror}; make room, or choose "
            "another --output"
        ) from None


def _partial(target: Path) -> Path:
    """Where a file is written until it is whole; nobody else's."""
    return target.with_name(f"{target.name}.{os.getpid()}.partial")


def newest_first(found: Iterable[Stored]) -> list[Stored]:
    """The order in which packages are listed."""
    return sorted(found, key=lambda each: (each.whole, each.touched, each.digest), reverse=True)
