"""The CPU backend: transformers' own Llama over a static key-value cache whose rows stand at different
positions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AutoModelForCausalLM

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.backend.base import Backend, Chunk, Step, may_pass
from inf2kit.serving.engine.backend.cpu.packing import pack
from inf2kit.serving.engine.backend.cpu.recording import DecodeStep, OwnStorage, record
from inf2kit.serving.shapes import StaticShapes

_ATTENTION = "inf2kit_rows"


class CpuBackend(Backend):
    """A transformers causal language model on the CPU.

    Rows are computed up to the highest live one, and up to the longest used length, so that one caller does
    not pay for eight; the scheduler gives out the lowest rows first.

    Args:
        model_dir: Weights as safetensors, and ``config.json``.
        shapes: The static shapes.
        dtype: ``float32``, ``bfloat16`` or ``float16``; one that the processor does not compute natively is
            computed in float32, and every answer says so.
    """

    prefill_tokens = 256

    def __init__(self, model_dir: Path, shapes: StaticShapes, dtype: str) -> None:
        super().__init__(shapes)
        self._model_dir = model_dir
        computed = dtype if dtype in native_dtypes() else "float32"
        self._dtype = getattr(torch, computed)
        if computed != dtype:
            self.notice = f"this processor has no {dtype} arithmetic, so float32 stands in for it"
        self._model: Any = None
        self._cache: RowCache
        self._decode_step: DecodeStep

    def load(self) -> None:
        """Load the weights; this thread's team of threads is the only one torch ever starts."""
        # The model server sets OMP_NUM_THREADS=1 for its workers, and this process descends from one.
        torch.set_num_threads(int(os.environ.get("INF2KIT_TORCH_THREADS", _cores())))
        check_weights(self._model_dir)
        AttentionInterface.register(_ATTENTION, _attend)
        try:
            self._model = AutoModelForCausalLM.from_pretrained(
                self._model_dir,
                torch_dtype=self._dtype,
                attn_implementation=_ATTENTION,
                local_files_only=True,
            ).eval()
        except Exception as error:
            if may_pass(error):
                raise
            # Whatever else transformers or safetensors say, these weights will not load later either.
            first_line = str(error).partition("\n")[0]
            raise ModelDirectoryError(
                f"the weights in {self._model_dir} cannot be loaded ({first_line}); make the package again"
            ) from error
        config = self._model.config
        if config.max_position_embeddings < self.shapes.sequence_length:
            raise ModelDirectoryError(
                f"the model has {config.max_position_embeddings} positions, the preset asks for "
                f"sequence_length {self.shapes.sequence_length}; lower it in the preset"
            )
        pack(self._model, self.shapes.batch_size)
        self._cache = RowCache(config, self.shapes, self._dtype)
        self._record()

    @torch.inference_mode()
    def _record(self) -> None:
        # With a text of its own in each row: over an empty cache a step is the same at any position.
        batch, longest = self.shapes.batch_size, self.shapes.max_context_length
        prompts = [
            [(3 * row + index) % 50 for index in range(min(1 + row % 8, longest))] for row in range(batch)
        ]
        self._prefill([Chunk(row, ids) for row, ids in enumerate(prompts)], [0] * batch)

        def step(count: int, back: int = 0) -> list[torch.Tensor]:
            return self._step_inputs(list(range(count)), [len(ids) - back for ids in prompts[:count]])

        others = [step(batch), step(batch, back=1), step(1)]
        self._decode_step = record(self._model, step(min(2, batch)), others)

    @torch.inference_mode()
    def _prefill(self, chunks: Sequence[Chunk], starts: Sequence[int]) -> Step:
        # All chunks one behind the other, as if they were one text: the linear layers do not care, and are
        # faster with more tokens. Attention and cache go by segments.
        segments, offset = [], 0
        for chunk, start in zip(chunks, starts, strict=True):
            segments.append(Segment(chunk.row, start, len(chunk.ids), offset, self._dtype))
            offset += len(chunk.ids)
        self._cache.segments = segments
        positions = torch.cat([torch.arange(each.start, each.end) for each in segments])
        input_ids = torch.tensor([token_id for chunk in chunks for token_id in chunk.ids])
        last = torch.tensor([each.offset + each.tokens - 1 for each in segments])
        output = self._model(
            input_ids=input_ids[None],
            position_ids=positions[None],
            attention_mask=_NO_MASK,
            past_key_values=self._cache,
            # A whole prompt's logits would be 49,152 floats a token.
            logits_to_keep=last,
            cache_position=positions,
            segments=segments,  # transformers passes it on to _attend
        )
        return Step(output.logits[0].float())

    @torch.inference_mode()
    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> Step:
        # Rows 0..n are a view of the cache, without a copy. Those among them that are not live compute what
        # no one reads, at the position that the next prefill overwrites.
        count = rows[-1] + 1
        tokens, places = [0] * count, [self._partial.get(row, 0) for row in range(count)]
        for row, token_id, position in zip(rows, ids, positions, strict=True):
            tokens[row], places[row] = token_id, position
        logits = self._decode_step(*self._step_inputs(tokens, places))
        return Step(logits if count == len(rows) else logits[list(rows)])

    def _step_inputs(self, tokens: Sequence[int], positions: Sequence[int]) -> list[torch.Tensor]:
        """The arguments of a decode step of the rows ``0..n``."""
        position_ids = torch.tensor(positions)
        used = max(positions) + 1
        mask = torch.where(torch.arange(used) <= position_ids[:, None], 0.0, float("-inf")).to(self._dtype)
        return [
            torch.tensor(tokens)[:, None],
            position_ids[:, None],
            mask[:, None, None, :],
            torch.arange(len(tokens)),
            *self._cache.used(len(tokens), used),
        ]


class Segment:
    """A chunk of one row within the tokens of a prefill.

    Attributes:
        row: Of the batch.
        start: Its first position in the row.
        end: Behind its last position.
        tokens: How many.
        offset: Its first token among all tokens of the prefill.
        mask: What lies before it is seen whole, itself causally; None where nothing lies before it.
    """

    def __init__(self, row: int, start: int, tokens: int, offset: int, dtype: torch.dtype) -> None:
        self.row, self.start, self.end = row, start, start + tokens
        self.tokens, self.offset = tokens, offset
        self.mask: torch.Tensor | None = None
        if start:
            self.mask = torch.full((tokens, self.end), float("-inf"), dtype=dtype).triu(start + 1)


class RowCache(OwnStorage):
    """Keys and values of all rows, ``[rows, key_value_heads, sequence_length, head_dim]`` per layer.

    Attributes:
        segments: Where the coming prefill stores its keys and values.
    """

    def __init__(self, config: Any, shapes: StaticShapes, dtype: torch.dtype) -> None:
        super().__init__()
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (shapes.batch_size, config.num_key_value_heads, shapes.sequence_length, head_dim)
        self._keys = [torch.zeros(shape, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self._values = [torch.zeros(shape, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.segments: Sequence[Segment] = ()

    def used(self, count: int, used: int) -> list[torch.Tensor]:
        """Views of what is used of the rows ``0..count``: all layers' keys, then all layers' values."""
        return [each[:count, :, :used] for each in (*self._keys, *self._values)]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        cache_kwargs: object = None,  # noqa: ARG002 - transformers passes it
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the keys and values of a prefill; give those of all rows."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        for each in self.segments:
            new = slice(each.offset, each.offset + each.tokens)
            keys[each.row, :, each.start : each.end] = key_states[0, :, new]
            values[each.row, :, each.start : each.end] = value_states[0, :, new]
        return keys, values


# Makes transformers take the mask as it is, instead of building one; segments have their own.
_NO_MASK = torch.zeros(1, 1, 1, 1)


def _attend(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    segments: Sequence[Segment] = (),
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of the segments of a prefill, or of one new token per row.

    Shapes: query ``[rows, heads, tokens, head_dim]``, where a prefill is one row; key and value ``[rows,
    key_value_heads, length, head_dim]``; the result is ``[rows, tokens, heads, head_dim]``, as transformers
    expects.
    """
    rows, heads, _tokens, head_dim = query.shape
    if segments:
        outputs = [
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, each.offset : each.offset + each.tokens],
                key[each.row, None, :, : each.end],
                value[each.row, None, :, : each.end],
                attn_mask=each.mask,
                is_causal=each.mask is None,
                scale=scaling,
                enable_gqa=heads != key.shape[1],
            )
            for each in segments
        ]
        return torch.cat(outputs, dim=2).transpose(1, 2), None
    # Queries that share a key head are multiplied with it together, so that keys are never repeated.
    grouped = query.view(rows, key.shape[1], heads // key.shape[1], head_dim)
    scores = grouped @ key.transpose(2, 3) * scaling + attention_mask.to(query.dtype)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).view(rows, 1, heads, head_dim), None


def check_weights(model_dir: Path) -> None:
    """Every shard that the index names is there.

    Raises:
        ModelDirectoryError: naming the file that is missing.
    """
    index = model_dir / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(name for name in names if not (model_dir / name).exists())
    if missing:
        raise ModelDirectoryError(
            f"the model directory {model_dir} lacks {', '.join(missing)}; make the package again"
        )


def native_dtypes(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The precisions that this processor multiplies matrices in; elsewhere they are emulated, which is
    several times slower than float32."""
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    found = {"float32"}
    if flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        found.add("bfloat16")
    if flags & {"avx512_fp16", "amx_fp16", "asimdhp"}:
        found.add("float16")
    return frozenset(found)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
