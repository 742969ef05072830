"""Fit in words: the lines of ``inf2kit presets check``."""

from __future__ import annotations

from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog import prices
from inf2kit.fit.architecture import Architecture
from inf2kit.fit.memory import BYTES, GIB, HOST_PROCESSES, Need, need
from inf2kit.fit.search import cheapest_instance, largest_batch_size, largest_sequence_length
from inf2kit.serving.shapes import StaticShapes


@dataclass(frozen=True)
class Fit:
    """One model with its shapes on one instance.

    Attributes:
        name: The preset's or the model's.
        architecture: The model's.
        shapes: The static shapes.
        tensor_parallel_size: NeuronCores.
        dtype: The precision of weights and arithmetic.
        instance_type: Where it is to run.
    """

    name: str
    architecture: Architecture
    shapes: StaticShapes
    tensor_parallel_size: int
    dtype: str
    instance_type: str

    @property
    def instance(self) -> catalog.Instance:
        """What the instance has."""
        return catalog.instances()[self.instance_type]

    @property
    def need(self) -> Need:
        """What the model needs there."""
        return need(self.architecture, self.shapes, self.tensor_parallel_size, self.dtype)

    @property
    def verdict(self) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        return self.need.verdict(self.instance)

    HEADER = (
        "PRESET",
        "INSTANCE",
        "CORES",
        "WEIGHTS",
        "KV CACHE",
        "ALL OF A CORE",
        "HOST AT LOAD",
        "VERDICT",
        "MOST ROWS",
    )

    def row(self) -> tuple[str, ...]:
        """One line of a table, for ``HEADER``."""
        needed, instance = self.need, self.instance
        core = instance.device_memory_gib / instance.cores
        return (
            self.name,
            self.instance_type,
            str(self.tensor_parallel_size),
            _gib(needed.weights),
            _gib(needed.kv_cache),
            f"{_gib(needed.core)} of {core:g} GiB",
            f"{_gib(needed.host)} of {instance.host_memory_gib} GiB",
            self.verdict,
            str(self._largest_batch()),
        )

    def lines(self) -> list[str]:
        """All of it, explained."""
        model, needed, instance = self.architecture, self.need, self.instance
        core = instance.device_memory_gib * GIB / instance.cores
        every = self.tensor_parallel_size
        shapes = self.shapes
        return [
            f"{self.name} on {self.instance_type}: {self.verdict}",
            f"  {shapes.batch_size} rows of {shapes.sequence_length} tokens, prompts up to "
            f"{shapes.max_context_length}, "
            f"{self.dtype}, {every} of {instance.cores} cores",
            "",
            f"  {'':26}{'each core':>12}{'all ' + str(every):>12}",
            *[
                f"  {name:26}{_gib(size):>8} GiB{_gib(size * every):>8} GiB"
                for name, size in [
                    ("weights", needed.weights),
                    ("key-value cache", needed.kv_cache),
                    ("activations (allowance)", needed.activations),
                    ("runtime (allowance)", needed.runtime),
                    ("together", needed.core),
                ]
            ],
            f"  {'there is':26}{_gib(core):>8} GiB{_gib(core * every):>8} GiB"
            f"   {100 * needed.device_use(instance):.0f} % used",
            f"  host, while it loads: {_gib(needed.host)} of {instance.host_memory_gib} GiB, "
            f"{100 * needed.host_use(instance):.0f} % used: the shards of all cores at once, and "
            f"{_gib(HOST_PROCESSES)} GiB for processes (measured in part)",
            "",
            *[f"  {line}" for line in self._why(model, needed)],
        ]

    def _why(self, model: Architecture, needed: Need) -> list[str]:
        size = BYTES[self.dtype]
        lines = [
            f"{model.parameters / 1e9:.2f} G parameters are {model.parameters * size / 1e9:.2f} GB of weights"
        ]
        if needed.attention_heads != model.num_attention_heads:
            lines.append(
                f"{model.num_attention_heads} heads are padded to {needed.attention_heads}, so that each of "
                f"{needed.cores} cores has as many; the padding costs memory and time like the rest"
            )
        if model.num_key_value_heads < model.num_attention_heads and (
            needed.key_value_heads > model.num_key_value_heads
        ):
            lines.append(
                f"{model.num_key_value_heads} key and value heads are repeated to {needed.key_value_heads}, "
                "one for each core"
            )
        lines.append(
            f"a decode step takes at least {1e3 * needed.step_floor_s(self.instance):.1f} ms, as each core "
            "reads its "
            "weights and cache once; more cores share that work, which is what a large instance is for"
        )
        lines.append(
            f"most rows of this length: {self._largest_batch()}; longest rows, this many: "
            f"{self._largest_sequence()} (the model has {model.max_position_embeddings} positions)"
        )
        choice = cheapest_instance(model, self.shapes, self.dtype)
        if choice is None:
            lines.append("no instance has room for it; use fewer rows, shorter ones, or float16")
        else:
            step_s = choice.need.step_floor_s(catalog.instances()[choice.instance_type])
            lines.append(
                f"cheapest instance with room for it: {choice.instance_type}, {choice.tensor_parallel_size} "
                f"cores, ${choice.per_hour:.2f} an hour in {choice.region} ({prices.current().date}), "
                f"at least {1e3 * step_s:.1f} ms a step"
            )
        if needed.host_use(self.instance) > needed.device_use(self.instance) > 0.3:
            lines.append(
                "the host is what is short, not the device: an instance with more host memory loads it safely"
            )
        return lines

    def _largest_batch(self) -> int:
        return largest_batch_size(
            self.architecture, self.shapes, self.tensor_parallel_size, self.dtype, self.instance
        )

    def _largest_sequence(self) -> int:
        return largest_sequence_length(
            self.architecture, self.shapes, self.tensor_parallel_size, self.dtype, self.instance
        )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"
