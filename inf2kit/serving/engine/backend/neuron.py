"""The Neuron backend: the compiled graphs of optimum-neuron's NxD models, driven row by row.

How a compiled model treats its inputs, and what this backend does about it (optimum-neuron 0.4.1 to 0.4.5,
``backend/modules/decoder``; every point has a test against that code):

- The decode graph takes all rows of the batch and writes the cache of each. It fills missing rows with the
  first row's token and position, which corrupts their cache; so every step passes all rows.
- The prefill graph takes one row, padded to ``max_context_length``, and returns the logits of its highest
  position. optimum-neuron pads positions with 1, which is above a prompt of one token and ties with a prompt
  of two; so this backend pads, with position 0.
- A prompt of one token has no unique highest position even so: it goes through the decode graph.
- The graphs accept a position past ``sequence_length``; ``Backend.decode`` refuses it.
- Sampling on the device takes top_k, top_p and temperature, at most 256 candidates, no seed, no processors.
  Its top-p leaves out the token at which the sum of probabilities is reached; ``caveats`` says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from inf2kit.errors import ModelDirectoryError, RequestError
from inf2kit.serving.engine.backend.base import (
    Backend,
    DeviceBusyError,
    PrefillChunk,
    StepOutput,
    is_transient,
)
from inf2kit.serving.model_dir import NEURON_CONFIG, compiled_files
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

#: The runtime's message when another process holds the cores. Its wording is not documented.
_BUSY_MESSAGE = re.compile(
    r"nrt_allocate_neuron_cores|neuron ?core\(?s?\)? (is |are )?(not available|in use)", re.IGNORECASE
)
#: The runtime's message for any reason not to start: an old driver, no device, or another process.
_NOT_STARTED_MESSAGE = re.compile(r"runtime (could not|cannot) be initialized", re.IGNORECASE)
_DRIVER_VERSION = Path("/sys/module/neuron/version")


class NeuronBackend(Backend):
    """A model that optimum-neuron has compiled.

    Args:
        model_dir: A folder written by optimum-neuron's ``save_pretrained``, with its shards.
        shapes: The static shapes that the model must be compiled for.
        first_core: The first of its NeuronCores, where several engines share an instance.

    Attributes:
        neuron_config: optimum-neuron's configuration of the compilation.

    Raises:
        ModelDirectoryError: the model is not compiled, or is compiled for other shapes.
    """

    def __init__(self, model_dir: Path, shapes: StaticShapes, *, first_core: int = 0) -> None:
        super().__init__(shapes)
        self._model_dir = model_dir
        self._first_core = first_core
        self.neuron_config = read_neuron_config(model_dir)
        self._check_shapes()
        self.samples_on_device = bool(self.neuron_config.get("on_device_sampling"))
        self._max_top_k = int(self.neuron_config.get("max_topk", 256))
        if self.samples_on_device:
            self.supported_parameters = frozenset({"do_sample", "temperature", "top_k", "top_p"})
        self._prefill_length = int(self.neuron_config["max_context_length"])
        self._model: Any = None
        batch = shapes.batch_size
        self._all_rows = torch.arange(batch)
        self._sampling_params = torch.tensor([[1.0, 1.0, 1.0]] * batch)

    def check(self, parameters: Parameters) -> None:
        """Refuse what sampling on the device cannot honour, a top_k above the graph's own limit included."""
        super().check(parameters)
        if self.samples_on_device and parameters.do_sample and not 1 <= parameters.top_k <= self._max_top_k:
            raise RequestError(
                422,
                "unsupported_parameter",
                f"this model samples on the device, among at most {self._max_top_k} tokens; give a top_k "
                f"within 1..{self._max_top_k}, or deploy a package that was compiled with --host-sampling",
            )

    def caveats(self, parameters: Parameters) -> tuple[str, ...]:
        """The device's top-p leaves out the token at which the sum is reached, which transformers keeps."""
        if not self.samples_on_device or not parameters.do_sample or not 0 < parameters.top_p < 1:
            return ()
        return (
            f"top_p {parameters.top_p:g} on the device: tokens are drawn among the best whose probabilities "
            "add up to at most that, or the best one is taken; the one that goes beyond is not among them",
        )

    def load(self) -> None:
        """Check the versions, take the cores and load the weights onto them."""
        self._check_versions()
        # optimum-neuron counts the cores of this range. It takes NUM_CORES=0 for none, the runtime for all.
        first, last = self._first_core, self._first_core + int(self.neuron_config["tp_degree"]) - 1
        os.environ["NEURON_RT_VISIBLE_CORES"] = f"{first}-{last}" if last > first else str(first)
        os.environ.pop("NEURON_RT_NUM_CORES", None)
        from optimum.neuron import NeuronModelForCausalLM

        try:
            self._model = NeuronModelForCausalLM.from_pretrained(self._model_dir)
        except Exception as error:
            text = str(error)
            message = _runtime_message(text)
            not_started = _NOT_STARTED_MESSAGE.search(text) is not None
            if _BUSY_MESSAGE.search(text) or (not_started and _is_device_open_elsewhere(first, last)):
                raise DeviceBusyError(
                    f"another process holds the NeuronCores ({message}); "
                    "loading is tried again, as the cores are free once that process has ended"
                ) from error
            advice = "compile it again in the image that runs it"
            if "No Neuron device" in text:
                advice = "run it on an instance with a Neuron device, ml.inf2 or inf2"
            elif isinstance(error, RuntimeError) or is_transient(error):
                # The runtime may recover: from a device that is being reset, or from a lack of memory.
                raise RuntimeError(f"the Neuron runtime ({_describe_driver()}) says: {message}") from error
            raise ModelDirectoryError(
                f"the compiled model in {self._model_dir} cannot be loaded ({message.rstrip('.')}); {advice}"
            ) from error

    def _check_shapes(self) -> None:
        config, shapes, path = self.neuron_config, self.shapes, self._model_dir / NEURON_CONFIG
        required = {
            "batch_size": shapes.batch_size,
            "sequence_length": shapes.sequence_length,
            # Without continuous batching a prefill writes to all rows.
            "continuous_batching": shapes.batch_size > 1,
        }
        for name, value in required.items():
            if config.get(name) != value:
                raise ModelDirectoryError(
                    f"{path}: {name} is {config.get(name)}, the preset asks for {value}; "
                    "compile the model for this preset"
                )
        if int(config["max_context_length"]) < shapes.max_context_length:
            raise ModelDirectoryError(
                f"{path}: max_context_length is {config['max_context_length']}, the preset asks for "
                f"{shapes.max_context_length}; compile the model for this preset"
            )

    def _check_versions(self) -> None:
        """Refuse to load a model with other versions than those that compiled it, and name them."""
        try:
            from optimum.neuron.utils.version_utils import get_neuronxcc_version
            from optimum.neuron.version import __version__

            installed = {"optimum-neuron": __version__, "neuronx-cc": get_neuronxcc_version()}
        except ImportError as error:
            raise ModelDirectoryError(
                f"this model is compiled for Neuron, but optimum-neuron cannot be imported ({error}); "
                "run it in the container image that compiled it, or rehearse it with the CPU backend"
            ) from None
        compiled_with = {
            "optimum-neuron": self.neuron_config.get("optimum_neuron_version"),
            "neuronx-cc": self.neuron_config.get("neuronxcc_version"),
        }
        for name, version in compiled_with.items():
            if version != installed[name]:
                raise ModelDirectoryError(
                    f"the model was compiled with {name} {version}, but {installed[name]} is installed, "
                    "which loads no other; compile it in the image that runs it, or deploy the image "
                    "that compiled it"
                )

    def _prefill(self, chunks: Sequence[PrefillChunk], _: Sequence[int]) -> StepOutput:
        (chunk,) = chunks
        self._sampling_params[chunk.row] = self._device_sampling_params(chunk.parameters)
        length = len(chunk.ids)
        if length == 1:
            return self._prefill_single_token(chunk.row, chunk.ids[0])
        ids, positions = torch.zeros((2, 1, self._prefill_length), dtype=torch.int64)
        ids[0, :length] = torch.tensor(chunk.ids)
        positions[0, :length] = torch.arange(length)
        return self._forward(
            ids, positions, torch.tensor([chunk.row]), self._sampling_params[chunk.row, None]
        )

    def _prefill_single_token(self, row: int, token_id: int) -> StepOutput:
        """Send a prompt of one token through the decode graph.

        Each other row writes token 0 to the position after its last one, which is written again, before it is
        read, when that row's next token comes.
        """
        ids, positions = torch.zeros((2, self.shapes.batch_size, 1), dtype=torch.int64)
        for other, length in self._lengths.items():
            positions[other, 0] = length
        ids[row, 0] = token_id
        return self._forward(ids, positions, self._all_rows, self._sampling_params).select([row])

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        # Free rows get token 0 at position 0, which their next prefill overwrites.
        all_ids, all_positions = torch.zeros((2, self.shapes.batch_size, 1), dtype=torch.int64)
        live = list(rows)
        all_ids[live, 0], all_positions[live, 0] = torch.tensor(ids), torch.tensor(positions)
        return self._forward(all_ids, all_positions, self._all_rows, self._sampling_params).select(live)

    @torch.inference_mode()
    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, sampling_params: torch.Tensor
    ) -> StepOutput:
        outputs = self._model.forward(
            input_ids=ids, position_ids=positions, seq_ids=rows, sampling_params=sampling_params
        )
        # ids [rows] or logits [rows, 1, vocabulary], which 0.4.1 wraps in an object.
        result = outputs if isinstance(outputs, torch.Tensor) else outputs.tokens
        if self.samples_on_device:
            return StepOutput(torch.empty(0), result.flatten().tolist())
        return StepOutput(result[:, -1, :].float())

    def _device_sampling_params(self, parameters: Parameters | None) -> torch.Tensor:
        """Return top_k, top_p and temperature as the graphs take them; greedy search is top_k 1."""
        if parameters is None or not parameters.do_sample or parameters.top_p == 0:
            return torch.tensor([1.0, 1.0, 1.0])
        return torch.tensor([float(parameters.top_k), parameters.top_p, parameters.temperature])


def read_neuron_config(model_dir: Path) -> dict[str, Any]:
    """Read optimum-neuron's configuration of a compiled model, and check that its files are there.

    Raises:
        ModelDirectoryError: the model is not compiled, or a file is missing.
    """
    path = model_dir / NEURON_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        tensor_parallel_size, _ = int(config["tp_degree"]), int(config["max_context_length"])
    except FileNotFoundError:
        raise ModelDirectoryError(
            f"{path} is missing, so the model is not compiled for Neuron; compile it with 'inf2kit compile'"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_transient(error):
            raise
        raise ModelDirectoryError(f"{path} cannot be read ({error!r}); compile the model again") from None
    missing = [name for name in compiled_files(tensor_parallel_size) if not (model_dir / name).exists()]
    if missing:
        raise ModelDirectoryError(
            f"the model directory {model_dir} lacks {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; compile it again from a local copy of the model, so that its shards are saved"
        )
    return dict(config)


def _runtime_message(text: str) -> str:
    """The first line of an error, or the runtime's own message where TorchScript's frames surround it."""
    inner = re.findall(r"^RuntimeError: (.+)$", text, re.MULTILINE)
    return str(inner[-1]) if inner else text.partition("\n")[0]


def _describe_driver() -> str:
    """The version of the host's driver, which may be of another release than the image."""
    try:
        return f"driver {_DRIVER_VERSION.read_text(encoding='ascii').strip()}"
    except (OSError, ValueError):
        return "no driver is loaded"


def _is_device_open_elsewhere(first_core: int, last_core: int) -> bool:
    """Whether another process of this container has a device of these cores open; each device has two."""
    devices = {f"/dev/neuron{core // 2}" for core in range(first_core, last_core + 1)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            if descriptor.parts[2] != str(os.getpid()) and str(descriptor.readlink()) in devices:
                return True
    return False
