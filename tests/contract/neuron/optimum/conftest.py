"""Models compiled for the CPU double of a device, by inf2kit's export and optimum-neuron's real code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Compiled = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compiled]:
    """Compile the embedded model's first layers, once for each choice of shapes."""
    from inf2kit.compile.export import export
    from inf2kit.compile.spec import CompileSpec
    from inf2kit.serving.shapes import StaticShapes

    folders: dict[tuple[object, ...], Path] = {}

    def compile_once(
        batch_size: int,
        sequence_length: int = 64,
        max_context_length: int | None = None,
        *,
        on_device: bool = False,
    ) -> Path:
        key = (batch_size, sequence_length, max_context_length, on_device)
        if key not in folders:
            spec = CompileSpec(
                model="embedded/model",
                revision="r1",
                shapes=StaticShapes.resolve(batch_size, sequence_length, max_context_length),
                tensor_parallel_size=1,
                dtype="float32",
                on_device_sampling=on_device,
            )
            folders[key] = tmp_path_factory.mktemp("compiled") / "model"
            export(spec, small_weights, folders[key])
        return folders[key]

    yield compile_once
    for path in folders.values():
        shutil.rmtree(path)
