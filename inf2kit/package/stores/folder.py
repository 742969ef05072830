"""A folder of this machine as a store."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.hashing import HashedFile, file_changed
from inf2kit.package.manifest import DIGEST, Entry
from inf2kit.package.stores.base import FileOrigin, ReportBytes, Store, StoredPackage, Task, sort_packages
from inf2kit.serving.model_dir import MANIFEST

_BLOCK = 2**20
_PARTIAL = ".partial"


class FolderStore(Store):
    """A store in a folder.

    Args:
        folder: Created when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._written: set[Path] = set()

    def uri(self, digest: str) -> str:
        """Return the package's folder."""
        return f"{self._folder / digest}/"

    def check_writable(self) -> None:
        """Look at the folder, or at the one that it would be created in; nothing is written."""
        existing = next(
            folder for folder in (self._folder, *self._folder.absolute().parents) if folder.exists()
        )
        reason = os.strerror(errno.EACCES) if not os.access(existing, os.W_OK | os.X_OK) else None
        if not existing.is_dir():
            reason = os.strerror(errno.ENOTDIR)
        if reason:
            raise PackageError(f"{self._folder} cannot be written to: {reason}; choose another --output")

    def list_stored(self) -> list[StoredPackage]:
        """List the folders whose name is a digest."""
        packages = []
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            if folder.is_dir() and DIGEST.fullmatch(folder.name):
                stats = [path.stat() for path in folder.rglob("*") if path.is_file()] or [folder.stat()]
                touched = dt.datetime.fromtimestamp(max(stat.st_mtime for stat in stats), dt.timezone.utc)
                whole = (folder / MANIFEST).exists()
                packages.append(
                    StoredPackage(folder.name, whole, touched, sum(stat.st_size for stat in stats))
                )
        return sort_packages(packages)

    def read_manifest(self, digest: str) -> bytes | None:
        """Read the file."""
        path = self._folder / digest / MANIFEST
        return path.read_bytes() if path.exists() else None

    def find_present(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare sizes. A file gets its name only when all of it is written."""
        folder = self._folder / digest
        return {
            name
            for name, entry in files.items()
            if (folder / name).is_file() and (folder / name).stat().st_size == entry.size
        }

    def find_missing(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare sizes."""
        return set(files) - self.find_present(digest, files)

    def find_unexpected(self, digest: str, files: Mapping[str, Entry]) -> set[str]:
        """Compare names, without the files that another process is writing."""
        folder = self._folder / digest
        names = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != _PARTIAL
        }
        return names - set(files) - {MANIFEST}

    def copy_task(self, digest: str, name: str, entry: Entry, origin: FileOrigin) -> Task:
        """Copy inside the folder's file system."""
        damaged = PackageError(
            f"the package {self.uri(origin.digest)} is damaged: {origin.name} was changed; delete the whole "
            "of it, and run the same command again"
        )
        source = HashedFile(self._folder / origin.digest / origin.name, entry, ())
        return self._write_task(digest, name, source, damaged)

    def write_tasks(self, digest: str, files: Mapping[str, HashedFile]) -> Iterable[Task]:
        """Return a task for each file."""
        for name, source in files.items():
            yield self._write_task(digest, name, source, file_changed(source.path))

    def _write_task(self, digest: str, name: str, source: HashedFile, changed: PackageError) -> Task:
        def run(report: ReportBytes) -> None:
            target = self._folder / digest / name
            partial = _partial(target)
            self._written |= {partial, target}
            with _translate_errors(self._folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                sha256 = hashlib.sha256()
                with source.path.open("rb") as reader, partial.open("wb") as writer:
                    while block := reader.read(_BLOCK):
                        sha256.update(block)
                        writer.write(block)
                        report(len(block))
                if sha256.hexdigest() != source.entry.sha256:
                    raise changed
                partial.replace(target)

        return Task(source.entry.size, run)

    def commit(self, digest: str, content: bytes) -> None:
        """Write the manifest atomically, by a rename."""
        target = self._folder / digest / MANIFEST
        partial = _partial(target)
        with _translate_errors(self._folder):
            partial.write_bytes(content)
            partial.replace(target)

    def read(self, digest: str, name: str) -> Iterator[bytes]:
        """Read the file."""
        with (self._folder / digest / name).open("rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def abandon(self, digest: str) -> None:
        """Delete what this process has written: the disk may be full. Other processes' files stay."""
        folder = self._folder / digest
        if (folder / MANIFEST).exists():  # another process has published the same package meanwhile
            return
        for path in self._written:
            path.unlink(missing_ok=True)
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            with suppress(OSError):  # not a folder, not empty, or gone
                path.rmdir()

    def delete(self, digest: str) -> None:
        """Delete the manifest, then the folder."""
        (self._folder / digest / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._folder / digest)


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    """Raise an OSError of writing as a PackageError."""
    try:
        yield
    except OSError as error:
        raise PackageError(
            f"{error.filename or folder} cannot be written: {error.strerror}; make room, or choose "
            "another --output"
        ) from None


def _partial(target: Path) -> Path:
    """Return the name under which this process writes a file until it is complete."""
    return target.with_name(f"{target.name}.{os.getpid()}{_PARTIAL}")
