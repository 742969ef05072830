"""The interface of a store of packages."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from inf2kit.package.hashing import HashedFile
from inf2kit.package.manifest import Entry

#: Called with the number of bytes that were written since the last call.
ReportBytes = Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """A part of an upload or copy that may run in a thread of its own.

    Attributes:
        size: Bytes that it writes.
        run: Writes them.
    """

    size: int
    run: Callable[[ReportBytes], None]


@dataclass(frozen=True)
class FileOrigin:
    """A file of another package in the same store.

    Attributes:
        digest: The other package's digest.
        name: The file's path in it.
    """

    digest: str
    name: str


@dataclass(frozen=True)
class StoredPackage:
    """A package in a store, whole or partly written.

    Attributes:
        digest: The package's name.
        whole: Whether its manifest is written, which happens last.
        touched: When any of its files was last written.
        size: Bytes of all its files.
    """

    digest: str
    whole: bool
    touched: dt.datetime
    size: int


class Store(ABC):
    """A folder or prefix that holds packages, each under its digest.

    Attributes:
        notes: Sentences for the publisher, by topic.
    """

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    @abstractmethod
    def uri(self, digest: str) -> str:
        """Return a package's URI or path, with a slash at its end."""

    @abstractmethod
    def check_writable(self) -> None:
        """Check that packages can be written, before an hour of work depends on it.

        Raises:
            PackageError: the store does not exist, belongs to another account, or is in another region.
        """

    @abstractmethod
    def list_stored(self) -> list[StoredPackage]:
        """List the packages, whole ones first, each group newest first."""

    @abstractmethod
    def read_manifest(self, digest: str) -> bytes | None:
        """Read the manifest of a package; None while the package is not whole."""

    @abstractmethod
    def find_present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Return the files that are stored already, whole and with the same content."""

    @abstractmethod
    def find_missing(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Return the files that are not stored in their size; content is not compared."""

    @abstractmethod
    def find_unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Return what is stored beside the files and the manifest: SageMaker would load it too."""

    @abstractmethod
    def copy_task(self, digest: str, name: str, entry: Entry, origin: FileOrigin) -> Task:
        """Return the task that copies a file from another package, inside the store.

        Args:
            digest: The package that receives the file.
            name: The file's path in it.
            entry: The file's size and sha256.
            origin: The other package's file.
        """

    @abstractmethod
    def write_tasks(self, digest: str, files: Mapping[str, HashedFile]) -> Iterable[Task]:
        """Return the tasks that write files. They refuse a file that has changed since it was hashed."""

    @abstractmethod
    def commit(self, digest: str, content: bytes) -> None:
        """Write the manifest, which makes the package whole."""

    @abstractmethod
    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """Read a file, block by block.

        Raises:
            FileNotFoundError: the file is not stored.
        """

    def abandon(self, digest: str) -> None:  # noqa: B027 - optional on purpose
        """Clean up after a failed publish. Stores that resume a partly written package do nothing."""

    @abstractmethod
    def delete(self, digest: str) -> None:
        """Delete a package, its manifest first, so that it never looks whole while files are missing."""


def sort_packages(packages: Iterable[StoredPackage]) -> list[StoredPackage]:
    """Sort packages as ``list_stored`` returns them."""
    return sorted(
        packages, key=lambda package: (package.whole, package.touched, package.digest), reverse=True
    )


def describe_unexpected(name: str) -> str:
    """Return the part of an error message about a stored file that the manifest does not name."""
    if not name or name.endswith("/"):
        return (
            f"{name} is an object whose key ends in a slash, as the console leaves for a folder, and "
            "SageMaker loads no prefix that holds one"
        )
    return f"{name} is not part of it"
