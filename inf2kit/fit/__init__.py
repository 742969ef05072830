"""Whether a model fits an instance: its memory on each core and on the host, before anything is compiled."""

from inf2kit.checkpoint import Architecture
from inf2kit.fit.memory import (
    MemoryEstimate,
    check_context,
    check_cores,
    check_positions,
    estimate_memory,
)
from inf2kit.fit.search import Choice, cheapest_instance, largest_batch_size, largest_sequence_length

__all__ = [
    "Architecture",
    "Choice",
    "MemoryEstimate",
    "cheapest_instance",
    "check_context",
    "check_cores",
    "check_positions",
    "estimate_memory",
    "largest_batch_size",
    "largest_sequence_length",
]
