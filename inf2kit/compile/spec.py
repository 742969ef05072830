"""The specification of a compilation: a model, its static shapes and the cores that it is split over."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture, check_context, check_cores, check_positions
from inf2kit.fit.memory import BYTES, weights_per_core
from inf2kit.presets import Preset
from inf2kit.serving.shapes import StaticShapes

#: Families that optimum-neuron never samples on two cores (``qwen2/modeling_qwen2.py``, a fault of the SDK).
_SAMPLED_ON_HOST = ("qwen2", "qwen3")


@dataclass(frozen=True)
class CompileSpec:
    """One compilation.

    Attributes:
        model: A model's name on the Hugging Face hub, or a folder of weights.
        revision: A commit, branch or tag of the model on the hub; None for the newest.
        shapes: The static shapes. Every prompt is padded to ``max_context_length``, so a smaller value gives
            a faster first token.
        tensor_parallel_size: NeuronCores that the weights are split over.
        dtype: The precision of weights and arithmetic.
        on_device_sampling: Whether the device chooses the tokens, so that logits are not copied to the host.
            The endpoint then refuses seeds, penalties, minimum lengths, and sampling without a top_k of at
            most 256.
    """

    model: str
    revision: str | None
    shapes: StaticShapes
    tensor_parallel_size: int
    dtype: str
    on_device_sampling: bool = False

    def check(self, architecture: Architecture) -> None:
        """Check that a model of this architecture can be compiled so.

        Raises:
            CompileError: it cannot be split over these cores, has fewer positions, or would be sampled
            wrongly.
        """
        check_cores(architecture, self.tensor_parallel_size)
        is_wrong_on_device = architecture.model_type in _SAMPLED_ON_HOST and self.shapes.batch_size > 1
        if self.on_device_sampling and self.tensor_parallel_size == 2 and is_wrong_on_device:
            raise CompileError(
                f"a {architecture.model_type} on 2 cores with more than one row would draw garbage on the "
                "device, so optimum-neuron samples it on the host; give --host-sampling, or use more "
                "cores"
            )
        check_positions(architecture, self.shapes.sequence_length, self.model)

    def shard_bytes(self, architecture: Architecture) -> int:
        """Return the bytes of the shards of all cores together."""
        return self.tensor_parallel_size * weights_per_core(
            architecture, self.tensor_parallel_size, self.dtype
        )

    def weight_bytes(self, architecture: Architecture) -> int:
        """Return the bytes of the weights before they are split."""
        return architecture.parameters * BYTES[self.dtype]

    @classmethod
    def from_preset(
        cls,
        preset: Preset,
        *,
        model: str | None = None,
        revision: str | None = None,
        batch_size: int | None = None,
        sequence_length: int | None = None,
        max_context_length: int | None = None,
        tensor_parallel_size: int | None = None,
        dtype: str | None = None,
        on_device_sampling: bool | None = None,
    ) -> CompileSpec:
        """Take a preset's values, some of them replaced; None leaves the preset's value.

        Raises:
            CompileError: the values contradict each other.
        """
        try:
            shapes = preset.shapes.with_changes(batch_size, sequence_length, max_context_length)
        except ValueError as error:
            raise CompileError(str(error)) from None
        check_context(max_context_length, shapes.sequence_length)
        cores = tensor_parallel_size or preset.compute.tensor_parallel_size
        _check_engines(preset, cores)
        return cls(
            model=model or preset.model.id,
            revision=revision,
            shapes=shapes,
            tensor_parallel_size=cores,
            dtype=dtype or preset.compute.dtype,
            on_device_sampling=(
                preset.compute.sampling == "device" if on_device_sampling is None else on_device_sampling
            ),
        )

    def apply_to(self, preset: Preset) -> Preset:
        """Return a preset with the compiled values: the manifest records it, and the engine reads it."""
        compute = dataclasses.replace(
            preset.compute,
            tensor_parallel_size=self.tensor_parallel_size,
            dtype=self.dtype,
            sampling="device" if self.on_device_sampling else "host",
        )
        model = preset.model
        if not Path(self.model).exists():
            model = dataclasses.replace(model, id=self.model)
        return dataclasses.replace(preset, model=model, shapes=self.shapes, compute=compute)

    def to_json(self) -> str:
        """Return the spec for another process, which reads it with ``from_file``."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CompileSpec:
        """Read a spec back from ``dataclasses.asdict``."""
        spec = cls(**values)
        return dataclasses.replace(spec, shapes=StaticShapes.from_dict(values["shapes"]))

    @classmethod
    def from_file(cls, path: Path) -> CompileSpec:
        """Read the spec that another process has written with ``to_json``."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _check_engines(preset: Preset, cores: int) -> None:
    """Check that some instance has enough cores for all engines of a preset, which its package starts."""
    engines, most = preset.compute.data_parallel_size, catalog.most_cores()
    if engines > 1 and engines * cores > most:
        raise CompileError(
            f"preset {preset.name!r} has {engines} engines, which need {engines * cores} cores with "
            f"{cores} each, and the largest instance has {most}; take fewer cores, or compile for a preset "
            "with a smaller data_parallel_size"
        )
