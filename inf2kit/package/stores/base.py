"""Where packages lie: the contract of a store, and a folder as one. ``s3`` holds the other."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.hashing import Hashed, changed
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.serving.model_dir import MANIFEST

_BLOCK = 2**20
_PARTIAL = ".partial"
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
    """A place for packages, one under each digest.

    Attributes:
        notes: What whoever publishes there should know; each of them once.
    """

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

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
            digest: The package it is for.
            name: The file's path in it.
            entry: Its size and sha256.
            origin: The other package's digest, and the file's name there.
        """

    @abstractmethod
    def write(self, digest: str, files: Mapping[str, Hashed]) -> Iterable[Task]:
        """Writing files, in pieces that may run side by side; a file that was changed is refused."""

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
        super().__init__()
        self._folder = folder
        self._written: set[Path] = set()

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
        packages = []
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.is_dir() and DIGEST.fullmatch(path.name):
                facts = [each.stat() for each in path.rglob("*") if each.is_file()] or [path.stat()]
                touched = dt.datetime.fromtimestamp(max(each.st_mtime for each in facts), dt.timezone.utc)
                whole = (path / MANIFEST).exists()
                packages.append(Stored(path.name, whole, touched, sum(each.st_size for each in facts)))
        return newest_first(packages)

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
        # What another one is writing at this moment is not there yet.
        names = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != _PARTIAL
        }
        return names - set(files) - {MANIFEST}

    def copy(self, digest: str, name: str, entry: Entry, origin: tuple[str, str]) -> Task:
        """A copy within the folder's file system."""
        damaged = PackageError(
            f"the package {self.where(origin[0])} is damaged: {origin[1]} was changed; delete the whole of "
            "it, and run the same command again"
        )
        return self._write(digest, name, Hashed(self._folder / origin[0] / origin[1], entry, ()), damaged)

    def write(self, digest: str, files: Mapping[str, Hashed]) -> Iterable[Task]:
        """A task for each file."""
        for name, source in files.items():
            yield self._write(digest, name, source, changed(source.path))

    def _write(self, digest: str, name: str, source: Hashed, otherwise: PackageError) -> Task:
        def run(sent: Sent) -> None:
            target = self._folder / digest / name
            partial = _partial(target)
            self._written |= {partial, target}
            with _one_sentence(self._folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                sha256 = hashlib.sha256()
                with source.path.open("rb") as reader, partial.open("wb") as writer:
                    while block := reader.read(_BLOCK):
                        sha256.update(block)
                        writer.write(block)
                        sent(len(block))
                if sha256.hexdigest() != source.entry.sha256:
                    raise otherwise
                partial.replace(target)

        return Task(source.entry.size, run)

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
        """What was written here goes again: room may be what was missing. What others have written stays."""
        folder = self._folder / digest
        if (folder / MANIFEST).exists():  # somebody else has made the same package meanwhile
            return
        for path in self._written:
            path.unlink(missing_ok=True)
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            with suppress(OSError):  # not a folder, not empty, or not there
                path.rmdir()

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
    return target.with_name(f"{target.name}.{os.getpid()}{_PARTIAL}")


def newest_first(packages: Iterable[Stored]) -> list[Stored]:
    """The order in which packages are listed."""
    return sorted(packages, key=lambda each: (each.whole, each.touched, each.digest), reverse=True)


def stranger(name: str) -> str:
    """What is wrong with something that is there and no file of the package."""
    if not name or name.endswith("/"):
        return (
            f"{name} is an object whose key ends in a slash, as the console leaves for a folder, and "
            "SageMaker loads no prefix that holds one"
        )
    return f"{name} is not part of it"
