"""The key-value cache of all rows, which stand at different positions, and the attention over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from inf2kit.serving.engine.backend.cpu.recording import ExternalCache
from inf2kit.serving.shapes import StaticShapes

#: Makes transformers pass a mask on as it is instead of building one. The segments of a prefill have their
#: own.
NO_MASK = torch.zeros(1, 1, 1, 1)


class Segment:
    """One chunk within the tokens of a prefill, which are those of all its chunks, one after the other.

    Args:
        row: The row of the batch.
        start: The chunk's first position in the row.
        tokens: Number of tokens.
        offset: The chunk's first token among all tokens of the prefill.
        dtype: The precision of the mask.

    Attributes:
        end: The position after its last one.
        mask: ``[tokens, end]``: all positions before the chunk, and its own causally; None where the row was
            empty, as causal attention needs no mask.
    """

    def __init__(self, row: int, start: int, tokens: int, offset: int, dtype: torch.dtype) -> None:
        self.row, self.start, self.end = row, start, start + tokens
        self.tokens, self.offset = tokens, offset
        self.mask: torch.Tensor | None = None
        if start:
            self.mask = torch.full((tokens, self.end), float("-inf"), dtype=dtype).triu(start + 1)


class RowCache(ExternalCache):
    """Keys and values of all rows, ``[rows, key_value_heads, sequence_length, head_dim]`` per layer.

    Attributes:
        segments: Where the next prefill stores its keys and values.
    """

    def __init__(self, config: Any, shapes: StaticShapes, dtype: torch.dtype) -> None:
        super().__init__()
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (shapes.batch_size, config.num_key_value_heads, shapes.sequence_length, head_dim)
        self._keys = [_lazy_zeros(shape, dtype) for _ in range(config.num_hidden_layers)]
        self._values = [_lazy_zeros(shape, dtype) for _ in range(config.num_hidden_layers)]
        self.segments: Sequence[Segment] = ()

    def views(self, rows: int, length: int) -> list[torch.Tensor]:
        """Return views of the first rows and positions: the keys of all layers, then their values."""
        return [layer[:rows, :, :length] for layer in (*self._keys, *self._values)]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        cache_kwargs: object = None,  # noqa: ARG002 - transformers passes it
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of a prefill, and return those of all rows."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        for segment in self.segments:
            tokens = slice(segment.offset, segment.offset + segment.tokens)
            keys[segment.row, :, segment.start : segment.end] = key_states[0, :, tokens]
            values[segment.row, :, segment.start : segment.end] = value_states[0, :, tokens]
        return keys, values


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return zeros whose memory is taken when it is first written.

    96 rows of 4096 tokens, as a fleet has, would take 18 GB of this machine; a rehearsal uses little of it.
    """
    size = math.prod(shape) * dtype.itemsize
    # numpy asks the system for zeros, which it hands out page by page; torch writes them. Aligned as torch's.
    memory = np.zeros(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + size]).view(dtype).view(shape)


def attend(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    segments: Sequence[Segment] = (),
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of the segments of a prefill, or of one new token per row; called by transformers.

    Shapes: query ``[rows, heads, tokens, head_dim]``, where a prefill is one row; key and value ``[rows,
    key_value_heads, length, head_dim]``; the result is ``[rows, tokens, heads, head_dim]``, as transformers
    expects.
    """
    rows, heads, _tokens, head_dim = query.shape
    if segments:
        outputs = [
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, segment.offset : segment.offset + segment.tokens],
                key[segment.row, None, :, : segment.end],
                value[segment.row, None, :, : segment.end],
                attn_mask=segment.mask,
                is_causal=segment.mask is None,
                scale=scaling,
                enable_gqa=heads != key.shape[1],
            )
            for segment in segments
        ]
        return torch.cat(outputs, dim=2).transpose(1, 2), None
    # Queries that share a key head are multiplied with it together, so that keys are never repeated.
    grouped = query.view(rows, key.shape[1], heads // key.shape[1], head_dim)
    scores = grouped @ key.transpose(2, 3) * scaling + attention_mask.to(query.dtype)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).view(rows, 1, heads, head_dim), None
