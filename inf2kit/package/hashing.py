"""Hash files in parts, so that every later read can be compared with the first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.manifest import Entry

#: Bytes of a part of a large file. A killed upload loses at most the parts that were being sent.
PART_SIZE = 16 * 2**20
#: S3's limit on the parts of one upload.
_MAX_PARTS = 10_000
_BLOCK = 2**20


@dataclass(frozen=True)
class HashedFile:
    """A file and the hashes of its content.

    Attributes:
        path: The file.
        entry: Its size and sha256.
        parts: The sha256 of each of its parts, 32 bytes each.
    """

    path: Path
    entry: Entry
    parts: tuple[bytes, ...]

    @classmethod
    def from_path(cls, path: Path) -> HashedFile:
        """Read a file once and hash it.

        Raises:
            PackageError: the file cannot be read, or changes while it is read.
        """
        whole, parts, count = hashlib.sha256(), list[bytes](), 0
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                for start, length in part_spans(size):
                    part, end = hashlib.sha256(), start + length
                    while count < end and (block := file.read(min(_BLOCK, end - count))):
                        whole.update(block)
                        part.update(block)
                        count += len(block)
                    parts.append(part.digest())
                has_more = bool(file.read(1))
        except OSError as error:
            raise PackageError(f"{path} cannot be read: {error.strerror}") from None
        if count != size or has_more:
            raise file_changed(path)
        return cls(path, Entry(size, whole.hexdigest()), tuple(parts))

    def read_part(self, index: int) -> bytes:
        """Read one part, counted from 0.

        Raises:
            PackageError: the file has changed since it was hashed.
            OSError: the file cannot be read.
        """
        start, length = part_spans(self.entry.size)[index]
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
        if hashlib.sha256(content).digest() != self.parts[index]:
            raise file_changed(self.path)
        return content


def part_spans(size: int) -> list[tuple[int, int]]:
    """Return the start and the length of each part of a file; an empty file has one empty part."""
    length = max(PART_SIZE, -(-size // _MAX_PARTS))
    return [(start, min(length, size - start)) for start in range(0, max(size, 1), length)]


def file_changed(path: Path) -> PackageError:
    """Return the error about a file that has changed since it was hashed."""
    return PackageError(
        f"{path} was changed while it was packaged; let its writer end, and run the same command again"
    )
