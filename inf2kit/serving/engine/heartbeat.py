"""Whether a process makes progress: a stamp in shared memory that it renews and its watchers read.

A device call that never returns leaves the engine alive and its socket open; only the missing progress shows
it. The memory belongs to no file, so a full disk does not matter, and reading it asks nothing of the process.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Mapping

#: Name the file descriptors for child processes.
ENGINE, GATEWAY = "INF2KIT_ENGINE_HEARTBEAT_FD", "INF2KIT_GATEWAY_HEARTBEAT_FD"
_STAMP, _LIMIT = 0, 8
_DOUBLE = struct.Struct("d")


class Heartbeat:
    """The stamp of one process after the other, shared by those that hold its file descriptor.

    Args:
        fd: Of 16 bytes of memory.

    Attributes:
        fd: To be passed on to child processes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, 2 * _DOUBLE.size)

    @classmethod
    def create(cls) -> Heartbeat:
        """A heartbeat that no other process has yet."""
        fd = os.memfd_create("inf2kit-heartbeat")
        os.ftruncate(fd, 2 * _DOUBLE.size)
        return cls(fd)

    @classmethod
    def inherited(cls, variable: str, environ: Mapping[str, str] = os.environ) -> Heartbeat:
        """The heartbeat that the parent process passes on; a new one where it passes none."""
        return cls(int(environ[variable])) if variable in environ else cls.create()

    def begin(self, stall_s: float) -> None:
        """The process serves from now on, and is stalled when it is silent for ``stall_s`` seconds."""
        _DOUBLE.pack_into(self._memory, _LIMIT, stall_s)
        self.beat()

    def beat(self) -> None:
        """There is progress, or there is nothing to do."""
        _DOUBLE.pack_into(self._memory, _STAMP, time.monotonic())

    def clear(self) -> None:
        """No process serves."""
        _DOUBLE.pack_into(self._memory, _STAMP, 0.0)

    @property
    def serving(self) -> bool:
        """Whether the process serves, or served until it ended."""
        return self._read(_STAMP) > 0

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 where no process serves."""
        stamp = self._read(_STAMP)
        return max(0.0, time.monotonic() - stamp) if stamp else 0.0

    @property
    def stalled(self) -> bool:
        """Whether the process has been silent for longer than it may be."""
        return self.silent_s > self._read(_LIMIT)

    def _read(self, offset: int) -> float:
        value: float = _DOUBLE.unpack_from(self._memory, offset)[0]
        return value
