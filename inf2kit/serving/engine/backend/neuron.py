"""The Neuron backend: the compiled graphs of optimum-neuron's NxD models, driven row by row.

What a compiled model does with its inputs, and what is done about it here (optimum-neuron 0.4.1 to 0.4.5,
``backend/modules/decoder``; every point has a test against that code):

- The decode graph takes all rows of the batch and writes the cache of each. Rows that are missing are filled
  with the first one's token and position, and their cache is spoilt; so all rows are passed at every step.
- The prefill graph takes one row, padded to ``max_context_length``, and answers for its highest position.
  It pads positions with 1, which is the highest of a prompt of one token and ties with that of two; so
  prompts are padded here, with position 0.
- Position 0 alone is no unique highest one: a prompt of one token goes through the decode graph.
- Nothing stops a position past ``sequence_length``; the contract does.
- Sampling on the device takes top_k, top_p and temperature, at most 256 candidates, no seed, no processors.
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
from inf2kit.serving.engine.backend.base import Backend, Chunk, DeviceBusyError, Step, may_pass
from inf2kit.serving.model_dir import NEURON_CONFIG, compiled_files
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

#: What the runtime says when another process has the cores. Its wording is not documented.
_BUSY = re.compile(
    r"nrt_allocate_neuron_cores|neuron ?core\(?s?\)? (is |are )?(not available|in use)", re.IGNORECASE
)
#: What it says whatever keeps it from starting: an old driver, no device, or another process.
_NOT_STARTED = re.compile(r"runtime (could not|cannot) be initialized", re.IGNORECASE)
_DRIVER = Path("/sys/module/neuron/version")


class NeuronBackend(Backend):
    """A model that optimum-neuron has compiled.

    Args:
        model_dir: As ``save_pretrained`` of optimum-neuron lays it out, shards included.
        shapes: The static shapes; the model's own must agree.

    Attributes:
        compiled_for: optimum-neuron's configuration of the compilation.

    Raises:
        ModelDirectoryError: it is not compiled, or for something else.
    """

    def __init__(self, model_dir: Path, shapes: StaticShapes) -> None:
        super().__init__(shapes)
        self._model_dir = model_dir
        self.compiled_for = read_neuron_config(model_dir)
        self._check_shapes()
        self._on_device = bool(self.compiled_for.get("on_device_sampling"))
        self._max_topk = int(self.compiled_for.get("max_topk", 256))
        if self._on_device:
            self.returns = "ids"
            self.honours = frozenset({"do_sample", "temperature", "top_k", "top_p"})
        self._context = int(self.compiled_for["max_context_length"])
        self._model: Any = None
        batch = shapes.batch_size
        self._all_rows = torch.arange(batch)
        self._sampling = torch.tensor([[1.0, 1.0, 1.0]] * batch)

    def check(self, parameters: Parameters) -> None:
        """Refuse what sampling on the device cannot honour."""
        super().check(parameters)
        if self._on_device and parameters.do_sample and not 1 <= parameters.top_k <= self._max_topk:
            raise RequestError(
                422,
                "unsupported_parameter",
                f"this model samples on the device, among at most {self._max_topk} tokens; give a "
                f"top_k within 1..{self._max_topk}, or deploy an export that samples on the host",
            )

    def load(self) -> None:
        """Check the versions, take the cores, load weights onto them."""
        self._check_versions()
        # optimum-neuron counts the cores of a range; NUM_CORES=0, "all" to the runtime, is none to it.
        cores = int(self.compiled_for["tp_degree"])
        os.environ["NEURON_RT_VISIBLE_CORES"] = f"0-{cores - 1}" if cores > 1 else "0"
        os.environ.pop("NEURON_RT_NUM_CORES", None)
        from optimum.neuron import NeuronModelForCausalLM

        try:
            self._model = NeuronModelForCausalLM.from_pretrained(self._model_dir)
        except Exception as error:
            text = str(error)
            sentence = _sentence_of(text)
            if _BUSY.search(text) or (_NOT_STARTED.search(text) and _another_has_the_device()):
                raise DeviceBusyError(
                    f"another process holds the NeuronCores ({sentence}); "
                    "it is tried again, as they are free once that process has ended"
                ) from error
            advice = "compile it again in the image that runs it"
            if "No Neuron device" in text:
                advice = "run it on an instance with a Neuron device, ml.inf2 or inf2"
            elif isinstance(error, RuntimeError) or may_pass(error):
                # The runtime's errors (a device that is being reset, no memory) may be over in a moment.
                raise RuntimeError(f"the Neuron runtime ({_driver()}) says: {sentence}") from error
            raise ModelDirectoryError(
                f"the compiled model in {self._model_dir} cannot be loaded ({sentence.rstrip('.')}); {advice}"
            ) from error

    def _check_shapes(self) -> None:
        config, shapes, path = self.compiled_for, self.shapes, self._model_dir / NEURON_CONFIG
        wanted = {"batch_size": shapes.batch_size, "sequence_length": shapes.sequence_length}
        # Without it the graphs know no rows: a prefill would write to all of them.
        wanted["continuous_batching"] = shapes.batch_size > 1
        for name, value in wanted.items():
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
        """An artefact loads only with the versions that made it; which, is worth more than a traceback."""
        try:
            from optimum.neuron.utils.version_utils import get_neuronxcc_version
            from optimum.neuron.version import __version__

            here = {"optimum-neuron": __version__, "neuronx-cc": get_neuronxcc_version()}
        except ImportError as error:
            raise ModelDirectoryError(
                f"this model is compiled for Neuron, and what loads it is not installed here ({error}); "
                "run it in the container image that compiled it, or rehearse it with the CPU backend"
            ) from None
        made = {
            "optimum-neuron": self.compiled_for.get("optimum_neuron_version"),
            "neuronx-cc": self.compiled_for.get("neuronxcc_version"),
        }
        for name, version in made.items():
            if version != here[name]:
                raise ModelDirectoryError(
                    f"the model was compiled with {name} {version}, here is {here[name]}, which loads "
                    "no other; compile it in the image that runs it, or deploy the image that compiled it"
                )

    def _prefill(self, chunks: Sequence[Chunk], _: Sequence[int]) -> Step:
        (chunk,) = chunks
        self._sampling[chunk.row] = self._device_sampling(chunk.parameters)
        length = len(chunk.ids)
        if length == 1:
            return self._first_of_one(chunk.row, chunk.ids[0])
        ids, positions = torch.zeros((2, 1, self._context), dtype=torch.int64)
        ids[0, :length] = torch.tensor(chunk.ids)
        positions[0, :length] = torch.arange(length)
        return self._forward(ids, positions, torch.tensor([chunk.row]), self._sampling[chunk.row, None])

    def _first_of_one(self, row: int, token_id: int) -> Step:
        """A prompt of one token through the decode graph.

        The other rows write token 0 to the place behind what they hold, which nothing reads before their own
        next token is written there.
        """
        ids, positions = torch.zeros((2, self.shapes.batch_size, 1), dtype=torch.int64)
        for other, length in self._lengths.items():
            positions[other, 0] = length
        ids[row, 0] = token_id
        return self._forward(ids, positions, self._all_rows, self._sampling).of([row])

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> Step:
        # Idle rows get token 0 at position 0, which a prefill overwrites.
        all_ids, all_positions = torch.zeros((2, self.shapes.batch_size, 1), dtype=torch.int64)
        where = list(rows)
        all_ids[where, 0], all_positions[where, 0] = torch.tensor(ids), torch.tensor(positions)
        return self._forward(all_ids, all_positions, self._all_rows, self._sampling).of(where)

    @torch.inference_mode()
    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, sampling: torch.Tensor
    ) -> Step:
        outputs = self._model.forward(
            input_ids=ids, position_ids=positions, seq_ids=rows, sampling_params=sampling
        )
        # 0.4.1 wraps what 0.4.5 returns as it is: ids [rows], or logits [rows, 1, vocabulary].
        result = outputs if isinstance(outputs, torch.Tensor) else outputs.tokens
        if self._on_device:
            return Step(torch.empty(0), result.flatten().tolist())
        return Step(result[:, -1, :].float())

    def _device_sampling(self, parameters: Parameters | None) -> torch.Tensor:
        """top_k, top_p and temperature as the graphs take them; greedy search is a choice among one."""
        if parameters is None or not parameters.do_sample:
            return torch.tensor([1.0, 1.0, 1.0])
        return torch.tensor([float(parameters.top_k), parameters.top_p, parameters.temperature])


def read_neuron_config(model_dir: Path) -> dict[str, Any]:
    """What a model was compiled for.

    Raises:
        ModelDirectoryError: it is not compiled, or lacks a file.
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
        raise ModelDirectoryError(f"{path} cannot be read ({error!r}); compile the model again") from None
    missing = [name for name in compiled_files(tensor_parallel_size) if not (model_dir / name).exists()]
    if missing:
        raise ModelDirectoryError(
            f"the model directory {model_dir} lacks {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; compile it again from a local copy of the model, so that its shards are saved"
        )
    return dict(config)


def _sentence_of(text: str) -> str:
    """What an error says: its first line, or what the runtime said inside of TorchScript's own frames."""
    inner = re.findall(r"^RuntimeError: (.+)$", text, re.MULTILINE)
    return str(inner[-1]) if inner else text.partition("\n")[0]


def _driver() -> str:
    """The host's driver, which need not be of the image's release."""
    try:
        return f"driver {_DRIVER.read_text(encoding='ascii').strip()}"
    except (OSError, ValueError):
        return "no driver is loaded"


def _another_has_the_device() -> bool:
    """Whether another process of this container has a Neuron device open."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # a process that ends meanwhile, or is another user's
            if descriptor.parts[2] != str(os.getpid()) and str(descriptor.readlink()).startswith(
                "/dev/neuron"
            ):
                return True
    return False
