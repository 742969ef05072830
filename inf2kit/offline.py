"""``inf2kit.load``: a model without an endpoint, in this process, by the same engine.

import inf2kit

model = inf2kit.load("llama2-7b-budget")
print(model.generate("My favorite place on earth is", max_new_tokens=64, do_sample=True, top_k=50).text)
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from inf2kit.client import TextResult
from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.protocol import WholeAnswer
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.model_dir import MANIFEST, MODEL_CONFIG, NEURON_CONFIG
from inf2kit.serving.shapes import StaticShapes

if TYPE_CHECKING:
    from inf2kit.serving.engine.in_process import InProcess

_QUEUE = 1024
#: Of weights that are compiled for nothing.
_SEQUENCE_LENGTH = 2048


class Model:
    """A model in this process; what ``inf2kit.load`` gives.

    Calls may come from several threads: they share the rows of the batch. A device is held until the process
    ends.
    """

    def __init__(self, engine: InProcess) -> None:
        self._engine = engine

    @overload
    def generate(self, prompt: str, **parameters: Any) -> TextResult: ...

    @overload
    def generate(self, prompt: Sequence[str], **parameters: Any) -> list[TextResult]: ...

    def generate(self, prompt: str | Sequence[str], **parameters: Any) -> TextResult | list[TextResult]:
        """Continue one text, or several at once, which fill the rows of the batch.

        Args:
            prompt: A text, or a list of texts.
            **parameters: As ``Endpoint.generate``.

        Raises:
            RequestError: what was asked for is refused.
        """
        inputs = prompt if isinstance(prompt, str) else list(prompt)
        body = {"inputs": inputs, "parameters": {**parameters, "details": True}}
        answer = WholeAnswer()
        for event in self._engine.call(body):
            answer.take(event)
        results = [TextResult.of(each) for each in cast("list[dict[str, Any]]", answer.body())]
        return results[0] if isinstance(prompt, str) else results

    def stream(self, prompt: str, **parameters: Any) -> Iterator[str]:
        """Continue one text, giving its pieces as they come.

        Raises:
            RequestError: as ``generate``.
        """
        for event in self._engine.call({"inputs": prompt, "parameters": parameters}, stream=True):
            token = event.get("token")
            if token and token["text"]:
                yield token["text"]


def load(
    directory: str | Path, *, batch_size: int | None = None, sequence_length: int | None = None
) -> Model:
    """Load a model package, a folder that ``inf2kit compile`` has written, or plain weights for the CPU.

    Args:
        directory: The folder.
        batch_size: Rows of plain weights, 1 by default; compiled models have theirs.
        sequence_length: Tokens of a row of plain weights, 2,048 by default or what the model has positions
            for.

    Raises:
        ModelDirectoryError: there is no model, it cannot be loaded here, or another process holds the
            device.
    """
    path = Path(directory).expanduser()
    if not (path / MODEL_CONFIG).exists():
        raise ModelDirectoryError(f"{path} lacks {MODEL_CONFIG}, so it is no model; give a model's folder")
    options = (batch_size, sequence_length)
    if any(options) and any((path / name).exists() for name in (MANIFEST, NEURON_CONFIG)):
        raise ModelDirectoryError(
            f"{path} is made for static shapes; leave batch_size and sequence_length out, or compile again"
        )
    settings = _settings(path, *options)
    try:
        from inf2kit.serving.engine.backend import DeviceBusyError
        from inf2kit.serving.engine.in_process import InProcess
    except ImportError as error:
        raise ModelDirectoryError(
            f"a model cannot be run in this process: {error}; pip install 'inf2kit[local]'"
        ) from None
    try:
        return Model(InProcess(settings))
    except DeviceBusyError as error:
        raise ModelDirectoryError(str(error)) from None


def _settings(path: Path, batch_size: int | None, sequence_length: int | None) -> Settings:
    run_dir = Path(tempfile.gettempdir())
    if (path / MANIFEST).exists():
        settings = Settings.read(path, {"INF2KIT_RUN_DIR": str(run_dir)})
        return dataclasses.replace(settings, deadline_s=math.inf, queue_size=_QUEUE)
    compiled = path / NEURON_CONFIG
    try:
        config = json.loads((path / MODEL_CONFIG).read_text(encoding="utf-8"))
        if compiled.exists():
            made = json.loads(compiled.read_text(encoding="utf-8"))
            shapes = StaticShapes.from_dict(made)
            backend, dtype = "neuron", str(made["torch_dtype"])
        else:
            longest = min(int(config["max_position_embeddings"]), sequence_length or _SEQUENCE_LENGTH)
            shapes = StaticShapes.resolve(batch_size or 1, longest)
            backend, dtype = "cpu", "float32"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelDirectoryError(f"a configuration in {path} cannot be read ({error!r})") from None
    return Settings(
        model_dir=path,
        run_dir=run_dir,
        backend=backend,
        model_name=str(config.get("_name_or_path") or path.name),
        dtype=dtype,
        shapes=shapes,
        queue_size=_QUEUE,
        prefills_per_step=1,
        deadline_s=math.inf,
        gateway_address=None,
        model_server_address="",
        model_server_workers=1,
        notice=None,
        stall_s=None,
        simulated={},
    )
