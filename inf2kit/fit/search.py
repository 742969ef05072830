"""Searches: the largest shapes that fit an instance, and the cheapest instance that shapes fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog import Instance
from inf2kit.catalog.prices import Price, current
from inf2kit.checkpoint.architecture import Architecture
from inf2kit.fit.memory import MemoryEstimate, can_be_split, estimate_memory
from inf2kit.serving.shapes import StaticShapes

#: The upper bound of a preset's batch size.
_MAX_BATCH_SIZE = 256


@dataclass(frozen=True)
class Choice:
    """An instance for a model.

    Attributes:
        instance_type: The instance's name.
        tensor_parallel_size: Number of cores to split the model over.
        price: The price of an hour.
        memory: What the model needs on that many cores.
    """

    instance_type: str
    tensor_parallel_size: int
    price: Price
    memory: MemoryEstimate


def largest_batch_size(
    architecture: Architecture,
    shapes: StaticShapes,
    cores: int,
    dtype: str,
    instance: Instance,
    engines: int = 1,
) -> int:
    """Return the largest number of an engine's rows that fit, tightly or not; 0 if not even one does."""

    def fits(batch_size: int) -> bool:
        candidate = StaticShapes(batch_size, shapes.sequence_length, shapes.max_context_length)
        memory = estimate_memory(architecture, candidate, cores, dtype, engines)
        return memory.verdict(instance) != "does not fit"

    return _largest(fits, _MAX_BATCH_SIZE)


def largest_sequence_length(
    architecture: Architecture,
    shapes: StaticShapes,
    cores: int,
    dtype: str,
    instance: Instance,
    engines: int = 1,
) -> int:
    """Return the longest row that fits and that the model has positions for; 0 if there is none.

    Prompts may be as long as the row allows.
    """

    def fits(sequence_length: int) -> bool:
        # Static shapes hold two tokens or more, which need no less memory than one.
        candidate = StaticShapes.resolve(shapes.batch_size, max(sequence_length, 2))
        memory = estimate_memory(architecture, candidate, cores, dtype, engines)
        return memory.verdict(instance) != "does not fit"

    largest = _largest(fits, architecture.max_position_embeddings)
    return largest if largest > 1 else 0


def cheapest_instance(
    architecture: Architecture,
    shapes: StaticShapes,
    dtype: str,
    region: str | None = None,
    *,
    engines: int = 1,
) -> Choice | None:
    """Return the cheapest instance that these shapes fit, with as many of its cores as the model can use.

    Instances without a price are left out. None means that no instance is large enough.
    """
    prices = current()
    choices: list[Choice] = []
    for name, instance in catalog.instances().items():
        price = prices.find(name, region)
        for cores in reversed(catalog.TENSOR_PARALLEL_SIZES):
            if price is None or engines * cores > instance.cores or not can_be_split(architecture, cores):
                continue
            memory = estimate_memory(architecture, shapes, cores, dtype, engines)
            if memory.verdict(instance) != "does not fit":
                choices.append(Choice(name, cores, price, memory))
                break
    return min(choices, key=lambda choice: choice.price.usd_per_hour, default=None)


def _largest(fits: Callable[[int], bool], upper: int) -> int:
    """Return the largest number up to ``upper`` that fits, provided that all smaller ones fit too."""
    low, high = 0, upper
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
