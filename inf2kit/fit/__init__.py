"""Whether a model fits: what it needs of each core and of the host, before anything is compiled."""

from inf2kit.fit.architecture import Architecture
from inf2kit.fit.memory import Need, check_cores, check_positions, need
from inf2kit.fit.search import Choice, cheapest_instance, largest_batch_size, largest_sequence_length

__all__ = [
    "Architecture",
    "Choice",
    "Need",
    "cheapest_instance",
    "check_cores",
    "check_positions",
    "largest_batch_size",
    "largest_sequence_length",
    "need",
]
