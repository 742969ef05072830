"""The interface of a backend, and the static limits that every backend enforces."""

from __future__ import annotations

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

if TYPE_CHECKING:
    import torch

#: The parameters that affect which token is chosen, and those whose answer needs the logits.
SAMPLING_PARAMETERS = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "min_new_tokens",
    "logprobs",
    "top_n_tokens",
)


@dataclass(frozen=True)
class StepOutput:
    """The result of a prefill or a decode step: logits to sample from on the host, or sampled ids.

    Attributes:
        logits: float32, shape ``[rows, vocabulary]``; empty where the backend samples on the device.
        ids: One sampled id per row, or None where the backend returns logits.
    """

    logits: torch.Tensor
    ids: Sequence[int] | None = None

    def select(self, rows: Sequence[int]) -> StepOutput:
        """Return the output of some of the rows, in the given order."""
        if self.ids is not None:
            return StepOutput(self.logits, [self.ids[row] for row in rows])
        return self if len(rows) == len(self.logits) else StepOutput(self.logits[list(rows)])


@dataclass(frozen=True)
class PrefillChunk:
    """Consecutive ids of one prompt.

    Attributes:
        row: The row of the batch, which stores them after the ids of the prompt's earlier chunks.
        ids: At least one.
        last: Whether they complete the prompt.
        parameters: The request's parameters, for a backend that samples on the device.
    """

    row: int
    ids: Sequence[int]
    last: bool = True
    parameters: Parameters | None = None


#: How Rust writes the number of a system's error, as in safetensors' messages.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


class BatchError(RuntimeError):
    """A call breaks the static limits of the batch: a bug in the caller, not in a request."""


class DeviceBusyError(Exception):
    """Another process holds the device: loading may succeed later."""


def is_transient(error: BaseException) -> bool:
    """Whether loading may succeed later: memory, open files or a disk failed, rather than a missing file.

    Libraries raise errors of their own in place of the system's, so its causes and its text count, too.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        number = cause.errno if isinstance(cause, OSError) else None
        if number is None and (written := _SYSTEM_ERROR.search(str(cause))):
            number = int(written[1])
        if isinstance(cause, MemoryError) or "allocate memory" in str(cause):
            return True
        if number is not None and number not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return True
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


class Backend(ABC):
    """A batch of rows of static length.

    Prefill fills free rows, whole prompts or chunks of them; decode advances **all** live rows, in row order.
    A Neuron device requires both: its token-generation graph writes to the cache of every row that it is not
    given, so decoding only some of the live rows would corrupt the others.

    Attributes:
        shapes: The static shapes. They limit every backend, also one whose arithmetic is not static.
        samples_on_device: Whether a step returns sampled ids rather than logits.
        supported_parameters: The sampling parameters that a device can honour; the host honours all of them.
        max_prefill_tokens: Most tokens of one prefill, of all its prompts together, so that a long prompt
            does not stall running rows; None where each prompt is prefilled whole and alone, as by a
            compiled prefill graph.
        notice: What is simulated, added to every answer as a warning; None for a real backend.
    """

    samples_on_device: bool = False
    supported_parameters: frozenset[str] = frozenset()
    max_prefill_tokens: int | None = None
    notice: str | None = None

    def __init__(self, shapes: StaticShapes) -> None:
        self.shapes = shapes
        # Tokens that each live row holds, and those of rows whose prompt is not complete yet.
        self._lengths: dict[int, int] = {}
        self._partial_lengths: dict[int, int] = {}

    def check(self, parameters: Parameters) -> None:
        """Refuse sampling parameters that this backend cannot honour; none is ever ignored.

        Raises:
            RequestError: 422 ``unsupported_parameter``, naming all of them.
        """
        if not self.samples_on_device:
            return
        defaults = Parameters()
        requested = [
            name for name in SAMPLING_PARAMETERS if getattr(parameters, name) != getattr(defaults, name)
        ]
        unsupported = [name for name in requested if name not in self.supported_parameters]
        if unsupported:
            raise RequestError(
                422,
                "unsupported_parameter",
                f"this model samples on the device, which cannot honour {', '.join(unsupported)}; "
                "leave it out, or deploy a package that was compiled with --host-sampling",
            )

    def caveats(self, parameters: Parameters) -> tuple[str, ...]:  # noqa: ARG002
        """What this backend does with parameters otherwise than the wire says, a sentence each."""
        return ()

    @abstractmethod
    def load(self) -> None:
        """Load the weights. Called once, on the thread that makes every later call.

        Raises:
            ModelDirectoryError: a file is missing or wrong; loading again will not help.
            DeviceBusyError: another process holds the device.
        """

    def prefill(self, chunks: Sequence[PrefillChunk]) -> StepOutput:
        """Store prompts, or the next chunks of prompts, in their rows.

        A row is live, and takes part in decoding, once it has its last chunk.

        Returns:
            One row per chunk: what predicts the token after a prompt's last chunk. The row of a chunk that is
            not the last has no meaning.

        Raises:
            BatchError: a row is taken or too short, or there are too many tokens.
        """
        if self.max_prefill_tokens is None:
            _require(len(chunks) == 1 and chunks[0].last, "prompts come whole, one by one")
        else:
            tokens = sum(len(chunk.ids) for chunk in chunks)
            _require(tokens <= self.max_prefill_tokens, f"{tokens} tokens at once")
        starts = [self._partial_lengths.get(chunk.row, 0) for chunk in chunks]
        for chunk, start in zip(chunks, starts, strict=True):
            row, length = chunk.row, start + len(chunk.ids)
            _require(row not in self._lengths, f"row {row} is taken")
            _require(0 <= row < self.shapes.batch_size, f"row {row} is outside the batch")
            _require(start < length <= self.shapes.max_context_length, f"{length} prompt tokens")
        output = self._prefill(chunks, starts)
        for chunk, start in zip(chunks, starts, strict=True):
            self._partial_lengths.pop(chunk.row, None)
            lengths = self._lengths if chunk.last else self._partial_lengths
            lengths[chunk.row] = start + len(chunk.ids)
        return output

    def decode(self, rows: Sequence[int], ids: Sequence[int]) -> StepOutput:
        """Append the last id of each live row, and predict the token after it.

        Args:
            rows: All live rows, in ascending order.
            ids: One per row.

        Returns:
            One row per live row, in the same order.

        Raises:
            BatchError: these are not all live rows, or a row is full.
        """
        _require(list(rows) == sorted(self._lengths), "decode takes all live rows, in order")
        _require(len(rows) == len(ids), f"{len(ids)} ids for {len(rows)} rows")
        positions = [self._lengths[row] for row in rows]
        _require(max(positions) < self.shapes.sequence_length, "a row is full")
        output = self._decode(rows, ids, positions)
        for row in rows:
            self._lengths[row] += 1
        return output

    def release(self, row: int) -> None:
        """Free a row; its cache may be overwritten.

        Raises:
            BatchError: the row is free already.
        """
        _require(row in self._lengths or row in self._partial_lengths, f"row {row} is free")
        self._lengths.pop(row, None)
        self._partial_lengths.pop(row, None)

    @abstractmethod
    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        """Compute a prefill; ``starts`` are the first position of each chunk in its row."""

    @abstractmethod
    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        """Compute a decode step; ``positions`` are where the ids are stored in their rows."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BatchError(message)
