"""Files as they were when they were hashed: what is written later is compared with that."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import PackageError
from inf2kit.package.manifest import Entry

#: Bytes of a piece of a large file. A killed upload loses what it had sent of its last pieces only.
PART = 16 * 2**20
_MOST_PARTS = 10_000
_BLOCK = 2**20


@dataclass(frozen=True)
class Hashed:
    """A file, and what it held.

    Attributes:
        path: Where it is.
        entry: Its size and sha256.
        parts: The sha256 of each of its pieces, 32 bytes each.
    """

    path: Path
    entry: Entry
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, path: Path) -> Hashed:
        """Read a file once.

        Raises:
            PackageError: it cannot be read, or changes meanwhile.
        """
        whole, parts, count = hashlib.sha256(), list[bytes](), 0
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                for start, length in spans(size):
                    part, end = hashlib.sha256(), start + length
                    while count < end and (block := file.read(min(_BLOCK, end - count))):
                        whole.update(block)
                        part.update(block)
                        count += len(block)
                    parts.append(part.digest())
                longer = bool(file.read(1))
        except OSError as error:
            raise PackageError(f"{path} cannot be read: {error.strerror}") from None
        if count != size or longer:
            raise changed(path)
        return cls(path, Entry(size, whole.hexdigest()), tuple(parts))

    def piece(self, number: int) -> bytes:
        """One piece, counted from 0.

        Raises:
            PackageError: the file was changed since it was hashed.
            OSError: it cannot be read.
        """
        start, length = spans(self.entry.size)[number]
        with self.path.open("rb") as file:
            file.seek(start)
            content = file.read(length)
        if hashlib.sha256(content).digest() != self.parts[number]:
            raise changed(self.path)
        return content


def spans(size: int) -> list[tuple[int, int]]:
    """Where the pieces of a file begin, and their lengths; an empty file has one, which is empty."""
    length = max(PART, -(-size // _MOST_PARTS))
    return [(start, min(length, size - start)) for start in range(0, max(size, 1), length)]


def changed(path: Path) -> PackageError:
    """What is wrong with a file that is not what it was when it was hashed."""
    return PackageError(
        f"{path} was changed while it was packaged; let its writer end, and run the same command again"
    )
