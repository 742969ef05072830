"""The container's environment variables that packaging sets and the engine reads: names and numbers.

docs/environment.md describes these and all others. This module ships inside the model package: standard
library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Seconds that a call may take, instead of the preset's ``deadline_s``.
DEADLINE_SECONDS = "INF2KIT_DEADLINE_SECONDS"
#: Prompts that may wait for a row, instead of the preset's ``queue_size``.
QUEUE_SIZE = "INF2KIT_QUEUE_SIZE"
#: Prompts that one step takes in.
PREFILLS_PER_STEP = "INF2KIT_PREFILLS_PER_STEP"
#: Seconds without a step after which the engine counts as stuck.
STALL_SECONDS = "INF2KIT_STALL_SECONDS"
#: Threads of the CPU's backend.
TORCH_THREADS = "INF2KIT_TORCH_THREADS"
#: Engines that must serve for ``/ping`` to answer 200.
MIN_ENGINES = "INF2KIT_MIN_ENGINES"
#: The number of an engine, from 0. The supervisor sets it for each engine that it starts.
ENGINE = "INF2KIT_ENGINE"
#: ``host:port`` of the gateway; without it the toolkit has the endpoint's port.
GATEWAY_ADDRESS = "INF2KIT_GATEWAY_ADDRESS"
#: The model server's own: its address, ``unix:PATH`` or a URL.
MODEL_SERVER_ADDRESS = "MMS_INFERENCE_ADDRESS"
#: The image's own: the number of the model server's workers.
MODEL_SERVER_WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
#: The cores of the largest instance, each of which could have an engine of its own.
MAX_ENGINES = 24
#: What the simulated backend is to do: all variables that begin so.
SIMULATED_PREFIX = "INF2KIT_SIMULATED_"


@dataclass(frozen=True)
class Number:
    """The values that a variable may have.

    Attributes:
        low: The least one.
        high: The largest one.
        whole: Whether it has no decimal places.
    """

    low: float
    high: float
    whole: bool = True

    def read(self, value: str) -> float:
        """Return the number that a text is.

        Raises:
            ValueError: it is none, or outside the range.
        """
        pattern = "[0-9]+" if self.whole else r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?"
        if not re.fullmatch(pattern, value) or not self.low <= float(value) <= self.high:
            raise ValueError(f"it must be {self}")
        return int(value) if self.whole else float(value)

    def __str__(self) -> str:
        """Return what is allowed."""
        return f"a {'whole ' if self.whole else ''}number of {self.low:g} to {self.high:g}"


_SIMULATED = Number(0, 86_400, whole=False)
#: The variables that are numbers.
NUMBERS: Mapping[str, Number] = {
    # An asynchronous call may take an hour.
    DEADLINE_SECONDS: Number(0.001, 3600, whole=False),
    QUEUE_SIZE: Number(0, 100_000),
    PREFILLS_PER_STEP: Number(1, 1024),
    # An idle engine beats once a second, and would count as stuck.
    STALL_SECONDS: Number(3, 86_400, whole=False),
    TORCH_THREADS: Number(1, 1024),
    MIN_ENGINES: Number(1, MAX_ENGINES),
    ENGINE: Number(0, MAX_ENGINES - 1),
    MODEL_SERVER_WORKERS: Number(1, 1024),
}


def read_number(environ: Mapping[str, str], name: str) -> float | None:
    """Return the number that a variable is set to, or None if it is not set.

    Args:
        environ: The environment.
        name: One of ``NUMBERS``, or a name that begins with ``SIMULATED_PREFIX``.

    Raises:
        ValueError: it is set to anything else; the message has its name, its value and its range.
    """
    if name not in environ:
        return None
    try:
        return NUMBERS.get(name, _SIMULATED).read(environ[name])
    except ValueError as error:
        raise ValueError(f"{name} is {environ[name][:40]!r}; {error}, or not be set") from None
