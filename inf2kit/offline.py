"""``inf2kit.load``: run a model in this process, with the engine of the endpoints.

import inf2kit

model = inf2kit.load("models/DIGEST")
print(model.generate("My favorite place on earth is", max_new_tokens=64, do_sample=True, top_k=50).text)
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from inf2kit.checkpoint import inspect
from inf2kit.checkpoint.config import window as attention_window
from inf2kit.client.results import TextResult
from inf2kit.errors import CheckpointError, ModelDirectoryError
from inf2kit.extras import install_command
from inf2kit.serving.engine.events import EndEvent, TokenEvent, WholeAnswer
from inf2kit.serving.model_dir import MANIFEST, MODEL_CONFIG, NEURON_CONFIG
from inf2kit.serving.settings import Settings, torch_threads
from inf2kit.serving.shapes import StaticShapes

if TYPE_CHECKING:
    from inf2kit.serving.engine.in_process import InProcessEngine

#: Prompts that may wait for a row of the batch.
_QUEUE_SIZE = 1024
#: Tokens in a row of weights that are not compiled, unless the model has fewer positions.
_SEQUENCE_LENGTH = 2048


class Model:
    """A model in this process, returned by ``inf2kit.load``.

    Threads may share it: their calls are decoded together, as one batch. It holds its device until the
    process ends.

    Attributes:
        shapes: Its rows and their lengths.
        backend: ``neuron``, ``cpu`` or ``simulated``.
    """

    def __init__(self, engine: InProcessEngine, shapes: StaticShapes, backend: str) -> None:
        self._engine, self.shapes, self.backend = engine, shapes, backend

    def __repr__(self) -> str:
        """Return the backend and the shapes."""
        rows, length = self.shapes.batch_size, self.shapes.sequence_length
        return f"<Model on {self.backend}: {rows} rows of {length} tokens>"

    @overload
    def generate(self, prompt: str, **parameters: Any) -> TextResult: ...

    @overload
    def generate(self, prompt: Sequence[str], **parameters: Any) -> list[TextResult]: ...

    def generate(self, prompt: str | Sequence[str], **parameters: Any) -> TextResult | list[TextResult]:
        """Continue one text, or several, which are decoded as one batch.

        Args:
            prompt: A text, or a list of texts.
            **parameters: ``max_new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``seed``, ``stop`` and
                the others of ``inf2kit.serving.wire.Parameters``.

        Returns:
            A result, or a list of results in the order of the prompts; a list for one text, too, with ``n``
            above 1. The ``n`` answers to one text come together.

        Raises:
            RequestError: the call is refused.
        """
        inputs = prompt if isinstance(prompt, str) else list(prompt)
        answer = WholeAnswer()
        for event in self._engine.call({"inputs": inputs, "parameters": {**parameters, "details": "counts"}}):
            answer.add(event)
        answers = cast("list[dict[str, Any]]", answer.body())
        results = [TextResult.from_json(each) for each in answers]
        return results[0] if isinstance(prompt, str) and len(results) == 1 else results

    def stream(self, prompt: str, **parameters: Any) -> Iterator[str]:
        """Continue one text and yield its pieces as they come; joined, they are the text of ``generate``.

        Args:
            prompt: A text.
            **parameters: The same as for ``generate``.

        Raises:
            RequestError: as for ``generate``.
        """
        for event in self._engine.call({"inputs": prompt, "parameters": parameters, "stream": True}):
            if isinstance(event, (TokenEvent, EndEvent)) and event.token is not None and event.token.text:
                yield event.token.text


def load(
    directory: str | Path, *, batch_size: int | None = None, sequence_length: int | None = None
) -> Model:
    """Load a model package, a folder that ``inf2kit compile`` wrote, or plain weights for the CPU.

    Args:
        directory: The model's folder.
        batch_size: Number of rows for plain weights, 1 by default. Compiled models have their own.
        sequence_length: Number of tokens in a row of plain weights. The default is 2,048, or the model's
            number of positions if that is lower.

    Raises:
        ModelDirectoryError: there is no model, it cannot be loaded here, or another process holds the
            device.
    """
    path = Path(directory).expanduser()
    if not (path / MODEL_CONFIG).exists():
        raise ModelDirectoryError(f"{path} lacks {MODEL_CONFIG}, so it is no model; give a model's folder")
    if (path / MANIFEST).exists() or (path / NEURON_CONFIG).exists():
        if batch_size or sequence_length:
            raise ModelDirectoryError(
                f"{path} is compiled or packaged for static shapes; "
                "leave batch_size and sequence_length out, or compile again"
            )
        settings = _package_settings(path) if (path / MANIFEST).exists() else _compiled_settings(path)
        return _start(settings)
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as scratch:
        checkpoint = _prepare_weights(path, Path(scratch) / "checkpoint")
        return _start(
            _weights_settings(checkpoint, path, batch_size or 1, sequence_length or _SEQUENCE_LENGTH)
        )


def _start(settings: Settings) -> Model:
    try:
        from inf2kit.serving.engine.backend import DeviceBusyError
        from inf2kit.serving.engine.in_process import InProcessEngine
    except ImportError as error:
        raise ModelDirectoryError(
            f"a model cannot be run in this process: {error}; {install_command('local')}"
        ) from None
    try:
        return Model(InProcessEngine(settings), settings.shapes, settings.backend)
    except DeviceBusyError as error:
        raise ModelDirectoryError(str(error)) from None


def _package_settings(path: Path) -> Settings:
    settings = Settings.read(path, {"INF2KIT_RUN_DIR": str(_run_dir())})
    return dataclasses.replace(
        settings, deadline_s=math.inf, queue_size=_QUEUE_SIZE, torch_threads=torch_threads()
    )


def _compiled_settings(path: Path) -> Settings:
    config = _read_json(path / NEURON_CONFIG)
    try:
        shapes = StaticShapes.from_dict(config)
        dtype = str(config["torch_dtype"])
    except (KeyError, ValueError, TypeError) as error:
        raise _unreadable(path / NEURON_CONFIG, error) from None
    return _settings(path, "neuron", dtype, shapes)


def _prepare_weights(path: Path, target: Path) -> Path:
    """Return a folder of plain weights that transformers reads right: as it is, or rewritten."""
    try:
        inspection = inspect(path, compiles=False)
        inspection.check()
    except CheckpointError as error:
        raise ModelDirectoryError(str(error)) from None
    return inspection.write(target) if inspection.rewritten or inspection.left_out else path


def _weights_settings(checkpoint: Path, path: Path, batch_size: int, sequence_length: int) -> Settings:
    config = _read_json(checkpoint / MODEL_CONFIG)
    positions = min(filter(None, (config["max_position_embeddings"], attention_window(config))))
    try:
        shapes = StaticShapes.resolve(batch_size, min(positions, sequence_length))
    except ValueError as error:
        raise _unreadable(path / MODEL_CONFIG, error) from None
    return dataclasses.replace(_settings(path, "cpu", "float32", shapes), model_dir=checkpoint)


def _settings(path: Path, backend: str, dtype: str, shapes: StaticShapes) -> Settings:
    """Settings for a folder without a manifest. There is no server, so its settings are empty."""
    return Settings(
        model_dir=path,
        run_dir=_run_dir(),
        backend=backend,
        model_name=str(_read_json(path / MODEL_CONFIG).get("_name_or_path") or path.name),
        dtype=dtype,
        shapes=shapes,
        queue_size=_QUEUE_SIZE,
        prefills_per_step=1,
        deadline_s=math.inf,
        gateway_address=None,
        model_server_address="",
        model_server_workers=1,
        notice=None,
        stall_s=None,
        torch_threads=torch_threads(),
        simulated={},
    )


def _run_dir() -> Path:
    """Return a folder of the user's own. The engine of a server would put its sockets there."""
    return Path(tempfile.gettempdir()) / f"inf2kit-{os.getuid()}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(values, dict):
        raise _unreadable(path, TypeError("it is not a JSON object"))
    return values


def _unreadable(path: Path, error: Exception) -> ModelDirectoryError:
    return ModelDirectoryError(f"{path} cannot be read ({error!r}); fetch or compile the model again")
