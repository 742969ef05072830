"""The specification of a compilation: a model, its static shapes and the cores that it is split over."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import CompileError
from inf2kit.fit import Architecture, check_cores, check_positions
from inf2kit.fit.memory import BYTES, weights_per_core
from inf2kit.presets import Preset


@dataclass(frozen=True)
class CompileSpec:
    """One compilation.

    Attributes:
        model: A model's name on the Hugging Face hub, or a folder of weights.
        revision: A commit, branch or tag of the model on the hub; None for the newest.
        batch_size: Sequences that are decoded together.
        sequence_length: Tokens of a sequence, prompt and new ones.
        max_context_length: Tokens of the longest prompt. Every prompt is padded to it, so a smaller value
            gives a faster first token.
        tensor_parallel_size: NeuronCores that the weights are split over.
        dtype: The precision of weights and arithmetic.
        on_device_sampling: Whether the device chooses the tokens, so that logits are not copied to the host.
            The endpoint then refuses seeds, penalties, minimum lengths, and sampling without a top_k of at
            most 256.
    """

    model: str
    revision: str | None
    batch_size: int
    sequence_length: int
    max_context_length: int
    tensor_parallel_size: int
    dtype: str
    on_device_sampling: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.sequence_length < 2:
            raise CompileError(
                f"batch_size is {self.batch_size} and sequence_length {self.sequence_length}; "
                "they must be at least 1 and 2"
            )
        if not 1 <= self.max_context_length <= self.sequence_length:
            raise CompileError(
                f"max_context_length is {self.max_context_length}; it must be within 1..sequence_length, "
                f"which is {self.sequence_length}"
            )

    def check(self, architecture: Architecture) -> None:
        """Check that a model of this architecture can be compiled so.

        Raises:
            CompileError: it cannot be split over these cores, or has fewer positions.
        """
        check_cores(architecture, self.tensor_parallel_size)
        check_positions(architecture, self.sequence_length, self.model)

    def shard_bytes(self, architecture: Architecture) -> int:
        """Return the bytes of the shards of all cores together."""
        return self.tensor_parallel_size * weights_per_core(
            architecture, self.tensor_parallel_size, self.dtype
        )

    def weight_bytes(self, architecture: Architecture) -> int:
        """Return the bytes of the weights before they are split."""
        return architecture.parameters * BYTES[self.dtype]

    @classmethod
    def from_preset(cls, preset: Preset, **changes: object) -> CompileSpec:
        """Take a preset's values, some of them replaced.

        Args:
            preset: The preset.
            **changes: Attributes of this class; None leaves the preset's value.

        Raises:
            CompileError: the values contradict each other.
        """
        shapes, compute = preset.shapes, preset.compute
        values: dict[str, object] = {
            "model": preset.model.id,
            "revision": None,
            "batch_size": shapes.batch_size,
            "sequence_length": shapes.sequence_length,
            "max_context_length": shapes.max_context_length,
            "tensor_parallel_size": compute.tensor_parallel_size,
            "dtype": compute.dtype,
        }
        values |= {name: value for name, value in changes.items() if value is not None}
        values["max_context_length"] = values["max_context_length"] or values["sequence_length"]
        return cls(**values)  # type: ignore[arg-type]

    def apply_to(self, preset: Preset) -> Preset:
        """Return a preset with the compiled values: the manifest records it, and the engine reads it."""
        context = self.max_context_length if self.max_context_length < self.sequence_length else None
        shapes = dataclasses.replace(
            preset.shapes,
            batch_size=self.batch_size,
            sequence_length=self.sequence_length,
            max_context_length=context,
        )
        compute = dataclasses.replace(
            preset.compute, tensor_parallel_size=self.tensor_parallel_size, dtype=self.dtype
        )
        model = preset.model
        if not Path(self.model).exists():
            model = dataclasses.replace(model, id=self.model)
        return dataclasses.replace(preset, model=model, shapes=shapes, compute=compute)

    def to_json(self) -> str:
        """Return the spec for another process, which reads it with ``from_file``."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_file(cls, path: Path) -> CompileSpec:
        """Read the spec that another process has written with ``to_json``."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
