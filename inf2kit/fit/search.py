"""The largest shapes that fit an instance, and the cheapest instance that shapes fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog import Instance, prices
from inf2kit.fit.architecture import Architecture
from inf2kit.fit.memory import Need, can_be_split, need
from inf2kit.serving.shapes import StaticShapes

#: What a preset may ask for.
_LARGEST_BATCH_SIZE = 256


@dataclass(frozen=True)
class Choice:
    """An instance for a model.

    Attributes:
        instance_type: Its name.
        tensor_parallel_size: Cores that the model is split over there.
        per_hour: Dollars.
        region: Where that is the price.
        need: On it.
    """

    instance_type: str
    tensor_parallel_size: int
    per_hour: float
    region: str
    need: Need


def largest_batch_size(
    architecture: Architecture, shapes: StaticShapes, cores: int, dtype: str, instance: Instance
) -> int:
    """Most rows that fit, tightly if need be; 0 where not even one does."""

    def fits(batch_size: int) -> bool:
        grown = StaticShapes(batch_size, shapes.sequence_length, shapes.max_context_length)
        return need(architecture, grown, cores, dtype).verdict(instance) != "does not fit"

    return _largest(fits, _LARGEST_BATCH_SIZE)


def largest_sequence_length(
    architecture: Architecture, shapes: StaticShapes, cores: int, dtype: str, instance: Instance
) -> int:
    """Longest row that fits and that the model has positions for, prompts as long; 0 where there is none."""

    def fits(sequence_length: int) -> bool:
        # One token is no row; whatever two need, it needs less.
        grown = StaticShapes.resolve(shapes.batch_size, max(sequence_length, 2))
        return need(architecture, grown, cores, dtype).verdict(instance) != "does not fit"

    largest = _largest(fits, architecture.max_position_embeddings)
    return largest if largest > 1 else 0


def cheapest_instance(
    architecture: Architecture, shapes: StaticShapes, dtype: str, region: str | None = None
) -> Choice | None:
    """The instance of the lowest price that these shapes fit, on as many of its cores as can be used."""
    current_prices = prices.current()
    choices: list[Choice] = []
    for name, instance in catalog.instances().items():
        price = current_prices.of(name, region)
        for cores in reversed(catalog.TENSOR_PARALLEL_SIZES):
            if price is None or cores > instance.cores or not can_be_split(architecture, cores):
                continue
            needed = need(architecture, shapes, cores, dtype)
            if needed.verdict(instance) != "does not fit":
                choices.append(Choice(name, cores, *price, needed))
                break
    return min(choices, key=lambda each: each.per_hour, default=None)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that fits, where all smaller ones do too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
