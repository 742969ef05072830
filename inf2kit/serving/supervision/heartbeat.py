"""A time stamp in shared memory that a process renews while it makes progress, and that others read.

A device call that never returns leaves the engine alive and its socket open: only the missing progress shows.
The memory belongs to no file, so a full disk does not matter, and reading it does not disturb the process.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Mapping

#: Variables that pass the file descriptors on to child processes: an engine gets its own, the gateway its own
#: and those of all engines, with commas between them.
ENGINE, GATEWAY = "INF2KIT_ENGINE_HEARTBEAT_FD", "INF2KIT_GATEWAY_HEARTBEAT_FD"
ENGINES = "INF2KIT_ENGINE_HEARTBEAT_FDS"
_STAMP, _LIMIT = 0, 1
_SIZE = 16


class Heartbeat:
    """A time stamp and a limit, shared by the processes that hold the file descriptor.

    Args:
        fd: File descriptor of 16 bytes of memory.

    Attributes:
        fd: The same, to be passed on to child processes.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # A double at once: struct.pack_into writes zeros first, which mean "not serving" to a reader.
        self._doubles = memoryview(mmap.mmap(fd, _SIZE)).cast("d")

    @classmethod
    def create(cls) -> Heartbeat:
        """A new heartbeat, which no other process shares yet."""
        fd = os.memfd_create("inf2kit-heartbeat")
        os.ftruncate(fd, _SIZE)
        return cls(fd)

    @classmethod
    def inherited(cls, variable: str, environ: Mapping[str, str] = os.environ) -> Heartbeat:
        """The heartbeat that the parent process has passed on, or a new one."""
        return cls(int(environ[variable])) if variable in environ else cls.create()

    @classmethod
    def inherited_list(
        cls, variable: str, count: int, environ: Mapping[str, str] = os.environ
    ) -> list[Heartbeat]:
        """The heartbeats that the parent process has passed on, or ``count`` new ones."""
        if variable not in environ:
            return [cls.create() for _ in range(count)]
        return [cls(int(fd)) for fd in environ[variable].split(",")]

    def begin(self, stall_s: float) -> None:
        """Start: from now on the process is stalled when it is silent for ``stall_s`` seconds."""
        self._doubles[_LIMIT] = stall_s
        self.beat()

    def beat(self) -> None:
        """Report progress, or that there is nothing to do."""
        self._doubles[_STAMP] = time.monotonic()

    def excuse(self) -> None:
        """Count silence from now on: the reader was stopped, and so was the process, perhaps."""
        if self.serving:
            self.beat()

    def clear(self) -> None:
        """Reset: no process serves."""
        self._doubles[_STAMP] = 0.0

    @property
    def serving(self) -> bool:
        """Whether the process serves, or served until it ended."""
        return self._read(_STAMP) > 0

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat; 0 if no process serves."""
        stamp = self._read(_STAMP)
        return max(0.0, time.monotonic() - stamp) if stamp else 0.0

    @property
    def stalled(self) -> bool:
        """Whether the process has been silent for longer than it may be."""
        return self.silent_s > self._read(_LIMIT)

    def _read(self, place: int) -> float:
        return self._doubles[place]
