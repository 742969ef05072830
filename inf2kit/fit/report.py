"""The report on one model and instance: what ``inf2kit presets check`` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.checkpoint.architecture import Architecture
from inf2kit.fit.memory import BYTES, GIB, TIGHT, MemoryEstimate, estimate_memory
from inf2kit.fit.search import cheapest_instance, largest_batch_size, largest_sequence_length
from inf2kit.serving.shapes import StaticShapes

#: Headings of ``Fit.table_row``.
COLUMNS = (
    "PRESET",
    "INSTANCE",
    "CORES",
    "WEIGHTS",
    "KV CACHE",
    "FIRST CORE",
    "OTHERS",
    "HOST AT LOAD",
    "VERDICT",
    "MOST ROWS",
)


@dataclass(frozen=True)
class Fit:
    """A model with its static shapes on one instance.

    Attributes:
        name: The name of the preset or model.
        architecture: The model's sizes.
        shapes: The static shapes.
        cores: Number of NeuronCores to split the model over.
        dtype: The precision of weights and arithmetic.
        instance_type: The instance to run it on.
        engines: Number of engines on the instance, each with so many cores of its own.
    """

    name: str
    architecture: Architecture
    shapes: StaticShapes
    cores: int
    dtype: str
    instance_type: str
    engines: int = 1

    @property
    def instance(self) -> catalog.Instance:
        """The instance."""
        return catalog.instances()[self.instance_type]

    @property
    def memory(self) -> MemoryEstimate:
        """What the model needs on the instance."""
        return estimate_memory(self.architecture, self.shapes, self.cores, self.dtype, self.engines)

    @property
    def verdict(self) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        return self.memory.verdict(self.instance)

    def table_row(self) -> tuple[str, ...]:
        """Return one line of a table with the headings ``COLUMNS``."""
        memory, instance = self.memory, self.instance
        core_gib = instance.device_memory_gib / instance.cores
        return (
            self.name,
            self.instance_type,
            f"{self.engines} x {self.cores}" if self.engines > 1 else str(self.cores),
            _gib(memory.weights),
            _gib(memory.kv_cache),
            f"{_gib(memory.first_core)} of {core_gib:g} GiB",
            _gib(memory.per_core) if self.cores > 1 else "-",
            f"{_gib(memory.host)} of {instance.host_memory_gib} GiB",
            self.verdict,
            str(self._largest_batch_size()),
        )

    def explanation(self) -> list[str]:
        """Return all figures and the reasons for them, as lines of text."""
        memory, instance, shapes, cores = self.memory, self.instance, self.shapes, self.cores
        core_bytes = instance.device_memory_gib * GIB / instance.cores
        first = memory.first_core_more
        parts = {
            "weights": (memory.weights, 0),
            "key-value cache": (memory.kv_cache, 0),
            "activations (allowance)": (memory.activations, 0),
            "runtime (allowance)": (memory.runtime, 0),
            "first core (allowance)": (0, first),
            "together": (memory.per_core, first),
            "available": (core_bytes, 0),
        }
        return [
            f"{self.name} on {self.instance_type}: {self.verdict}",
            f"  {shapes.batch_size} rows of {shapes.sequence_length} tokens, prompts up to "
            f"{shapes.max_context_length}, {self.dtype}, {self._cores()} of {instance.cores} cores",
            "",
            f"  {'':26}{'first core':>12}{'each other':>12}{'all ' + str(cores):>12}",
            *[
                f"  {name:26}{_gib(each + more):>8} GiB{_gib(each):>8} GiB{_gib(each * cores + more):>8} GiB"
                for name, (each, more) in parts.items()
            ],
            f"  the first core decides: {100 * memory.device_use(instance):.0f} % of it are used",
            f"  host, while it loads: {_gib(memory.host)} of {instance.host_memory_gib} GiB, "
            f"{100 * memory.host_use(instance):.0f} % used: {self._shards()} at once, and "
            f"{_gib(memory.host_processes)} GiB for processes (measured in part)",
            "",
            *[f"  {reason}" for reason in self._reasons(memory)],
        ]

    def _cores(self) -> str:
        return f"{self.engines} engines of {self.cores} cores each," if self.engines > 1 else str(self.cores)

    def _shards(self) -> str:
        return "the shards of all cores of one engine" if self.engines > 1 else "the shards of all cores"

    def _reasons(self, memory: MemoryEstimate) -> list[str]:
        model, instance = self.architecture, self.instance
        weights_gb = model.parameters * BYTES[self.dtype] / 1e9
        reasons = [f"{model.parameters / 1e9:.2f} G parameters are {weights_gb:.2f} GB of weights"]
        if memory.attention_heads != model.num_attention_heads:
            reasons.append(
                f"{model.num_attention_heads} heads are padded to {memory.attention_heads}, so that all "
                f"{memory.cores} cores have the same number; padding costs memory and time like real heads"
            )
        if model.num_key_value_heads < model.num_attention_heads and (
            memory.key_value_heads > model.num_key_value_heads
        ):
            reasons.append(
                f"{model.num_key_value_heads} key and value heads are repeated to {memory.key_value_heads}, "
                "one for each core"
            )
        is_largest = instance.cores == catalog.most_cores()
        reasons.append(
            f"a decode step takes at least {1e3 * memory.step_floor_s(instance):.1f} ms, as each core reads "
            "its weights and cache once"
            + ("" if is_largest else "; a larger instance divides this work among more cores")
        )
        reasons.append(
            f"most rows of this length: {self._largest_batch_size()}; longest rows, this many: "
            f"{self._largest_sequence_length()} (the model has {model.max_position_embeddings} positions)"
        )
        reasons.append(self._cheapest())
        if memory.host_use(instance) > max(TIGHT, memory.device_use(instance)):
            reasons.append(
                "the host is short of memory, not the device; choose an instance with more host memory"
            )
        return reasons

    def _cheapest(self) -> str:
        choice = cheapest_instance(self.architecture, self.shapes, self.dtype, engines=self.engines)
        if choice is None:
            return "no instance has room for it; use fewer rows, shorter ones, or float16"
        price = choice.price
        cores = f"{choice.tensor_parallel_size} cores"
        if self.engines > 1:
            cores = f"{self.engines} engines of {cores}"
        step_s = choice.memory.step_floor_s(catalog.instances()[choice.instance_type])
        return (
            f"cheapest instance with room for it: {choice.instance_type}, {cores}, "
            f"${price.usd_per_hour:.2f} an hour in {price.region} ({price.date}), "
            f"at least {1e3 * step_s:.1f} ms a step"
        )

    def _largest_batch_size(self) -> int:
        return self._largest(largest_batch_size)

    def _largest_sequence_length(self) -> int:
        return self._largest(largest_sequence_length)

    def _largest(self, search: Callable[..., int]) -> int:
        return search(
            self.architecture, self.shapes, self.cores, self.dtype, self.instance, engines=self.engines
        )


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"
