"""What a backend must do, and the static limits that are asserted for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from inf2kit.errors import RequestError
from inf2kit.shapes import StaticShapes
from inf2kit.wire import Parameters

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


class Backend(ABC):
    """A batch of rows of static length.

    Prefill fills one free row, at once or in chunks; decode advances **all** live rows, in row order. Both
    are what a Neuron device asks for: its token-generation graph writes to the cache of every row that it is
    not given, so decoding some of the live rows would spoil the others.

    Attributes:
        shapes: The static shapes; the same limits hold whether the arithmetic is static or not.
        returns: Whether a step gives ``logits`` (sampled on the host) or ``ids`` (sampled on the device).
        honours: The parameters that a backend which returns ids can honour; the host honours all.
        prefill_chunk: Most ids that one prefill takes, so that running rows do not wait for the whole of a
            long prompt; None where a prompt must come whole, as for a compiled prefill graph.
        notice: What is not the real thing about it, put into every answer; None for real ones.
    """

    returns: Literal["logits", "ids"] = "logits"
    honours: frozenset[str] = frozenset()
    prefill_chunk: int | None = None
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
        """

    def prefill(self, row: int, ids: Sequence[int], *, last: bool = True) -> Step:
        """Put a prompt, or the next chunk of one, into a row; a step of one row.

        Behind the last chunk it is for the token that follows the prompt, before that of no interest. A row
        is live, and takes part in decoding, once it has its last chunk.
        """
        assert row not in self._lengths, f"row {row} is taken"  # noqa: S101
        assert 0 <= row < self.shapes.batch_size, f"row {row} is outside the batch"  # noqa: S101
        start = self._partial.pop(row, 0)
        assert self.prefill_chunk is not None or (last and not start), "a prompt comes whole"  # noqa: S101
        assert 1 <= len(ids) <= (self.prefill_chunk or len(ids)), f"a chunk of {len(ids)}"  # noqa: S101
        length = start + len(ids)
        assert length <= self.shapes.max_context_length, f"{length} prompt tokens"  # noqa: S101
        step = self._prefill(row, ids, start)
        (self._lengths if last else self._partial)[row] = length
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
    def _prefill(self, row: int, ids: Sequence[int], start: int) -> Step: ...

    @abstractmethod
    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> Step: ...
