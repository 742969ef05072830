"""What a backend must do, and the static limits that are asserted for all of them."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters

#: The parameters that choose among logits.
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "min_new_tokens")


@dataclass(frozen=True)
class Step:
    """What a prefill or a decode step gives: logits for the host to sample from, or ids.

    Attributes:
        logits: float32, shape ``[rows, vocabulary]``; empty where the backend gives ids.
        ids: One per row, or None where the backend gives logits.
    """

    logits: torch.Tensor
    ids: Sequence[int] | None = None

    def of(self, rows: Sequence[int]) -> Step:
        """The step of some of its rows."""
        if self.ids is not None:
            return Step(self.logits, [self.ids[row] for row in rows])
        return self if len(rows) == len(self.logits) else Step(self.logits[list(rows)])


@dataclass(frozen=True)
class Chunk:
    """Some ids of one prompt.

    Attributes:
        row: Where they go, behind what it holds already of this prompt.
        ids: At least one.
        last: Whether the prompt ends with them.
        parameters: How its tokens are chosen, for a backend that does it itself.
    """

    row: int
    ids: Sequence[int]
    last: bool = True
    parameters: Parameters | None = None


def may_pass(error: Exception) -> bool:
    """Whether an error while loading may be over in a moment: no memory, no open files, a disk that fails."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


class DeviceBusyError(Exception):
    """Another process holds the device: trying again later will help."""


class Backend(ABC):
    """A batch of rows of static length.

    Prefill fills free rows, at once or in chunks; decode advances **all** live rows, in row order. Both
    are what a Neuron device asks for: its token-generation graph writes to the cache of every row that it is
    not given, so decoding some of the live rows would spoil the others.

    Attributes:
        shapes: The static shapes; the same limits hold whether the arithmetic is static or not.
        returns: Whether a step gives ``logits`` (sampled on the host) or ``ids`` (sampled on the device).
        honours: The parameters that a backend which returns ids can honour; the host honours all.
        prefill_tokens: Most tokens that one prefill takes, of several prompts together, so that running rows
            do not wait for the whole of a long prompt; None where prompts must come whole and one by one, as
            for a compiled prefill graph.
        notice: What is not the real thing about it, put into every answer; None for real ones.
    """

    returns: Literal["logits", "ids"] = "logits"
    honours: frozenset[str] = frozenset()
    prefill_tokens: int | None = None
    notice: str | None = None

    def __init__(self, shapes: StaticShapes) -> None:
        self.shapes = shapes
        self._lengths: dict[int, int] = {}
        self._partial: dict[int, int] = {}

    def check(self, parameters: Parameters) -> None:
        """Refuse what this backend cannot honour; it is never ignored.

        Raises:
            RequestError: 422 ``unsupported_parameter``, naming all of them.
        """
        if self.returns == "logits":
            return
        defaults = Parameters()
        asked = [name for name in SAMPLING if getattr(parameters, name) != getattr(defaults, name)]
        refused = [name for name in asked if name not in self.honours]
        if refused:
            raise RequestError(
                422,
                "unsupported_parameter",
                f"this model samples on the device, which cannot honour {', '.join(refused)}; "
                "leave it out, or deploy an export that samples on the host",
            )

    @abstractmethod
    def load(self) -> None:
        """Load the weights. Called once, on the thread that makes every later call.

        Raises:
            ModelDirectoryError: what is missing or wrong; trying again will not help.
            DeviceBusyError: another process holds the device.
        """

    def prefill(self, chunks: Sequence[Chunk]) -> Step:
        """Put prompts, or the next chunks of some, into their rows; a step with a row for each chunk.

        Behind a prompt's last chunk it is for the token that follows, before that of no interest. A row is
        live, and takes part in decoding, once it has its last chunk.
        """
        whole = self.prefill_tokens is None
        assert not whole or (len(chunks) == 1 and chunks[0].last), "prompts come whole, one by one"  # noqa: S101
        tokens = sum(len(chunk.ids) for chunk in chunks)
        assert whole or tokens <= (self.prefill_tokens or 0), f"{tokens} tokens at once"  # noqa: S101
        starts = [self._partial.get(chunk.row, 0) for chunk in chunks]
        for chunk, start in zip(chunks, starts, strict=True):
            row, length = chunk.row, start + len(chunk.ids)
            assert row not in self._lengths, f"row {row} is taken"  # noqa: S101
            assert 0 <= row < self.shapes.batch_size, f"row {row} is outside the batch"  # noqa: S101
            assert start < length <= self.shapes.max_context_length, f"{length} prompt tokens"  # noqa: S101
        step = self._prefill(chunks, starts)
        for chunk, start in zip(chunks, starts, strict=True):
            self._partial.pop(chunk.row, None)
            (self._lengths if chunk.last else self._partial)[chunk.row] = start + len(chunk.ids)
        return step

    def decode(self, rows: Sequence[int], ids: Sequence[int]) -> Step:
        """Feed each live row its last id; a step with the token behind it for each, in the same order."""
        assert list(rows) == sorted(self._lengths), "decode takes all live rows, in order"  # noqa: S101
        assert len(rows) == len(ids)  # noqa: S101
        positions = [self._lengths[row] for row in rows]
        assert max(positions) < self.shapes.sequence_length, "a row is full"  # noqa: S101
        step = self._decode(rows, ids, positions)
        for row in rows:
            self._lengths[row] += 1
        return step

    def release(self, row: int) -> None:
        """Give a row back; what it held is of no interest any more."""
        assert row in self._lengths or row in self._partial, f"row {row} is free"  # noqa: S101
        self._lengths.pop(row, None)
        self._partial.pop(row, None)

    @abstractmethod
    def _prefill(self, chunks: Sequence[Chunk], starts: Sequence[int]) -> Step: ...

    @abstractmethod
    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> Step: ...
