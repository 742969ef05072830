"""A transformers model over a static key-value cache, whose rows stand at different positions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AutoModelForCausalLM

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.backend.base import Backend, PrefillChunk, StepOutput, is_transient
from inf2kit.serving.engine.backend.cpu.packing import pack
from inf2kit.serving.engine.backend.cpu.recording import DecodeStep, record_decode_step
from inf2kit.serving.engine.backend.cpu.row_cache import NO_MASK, RowCache, Segment, attend
from inf2kit.serving.engine.backend.cpu.threads import StepThreads
from inf2kit.serving.model_dir import WEIGHTS_INDEX, weight_files
from inf2kit.serving.shapes import StaticShapes

_ATTENTION = "inf2kit_rows"


class CpuBackend(Backend):
    """A transformers causal language model on the CPU.

    A step computes the rows up to the highest live one, and positions up to the longest row's, so that one
    caller does not pay for eight; the scheduler assigns the lowest free row first.

    Args:
        model_dir: Weights as safetensors, and ``config.json``.
        shapes: The static shapes.
        dtype: ``float32``, ``bfloat16`` or ``float16``. A precision that the processor does not compute
            natively is replaced by float32, and every answer says so.
        threads: Threads of torch; None for one on each core. Fewer compute while the cores are busy.
    """

    max_prefill_tokens = 256

    def __init__(
        self, model_dir: Path, shapes: StaticShapes, dtype: str, *, threads: int | None = None
    ) -> None:
        super().__init__(shapes)
        self._model_dir = model_dir
        self._threads = threads
        used_dtype = dtype if dtype in native_dtypes() else "float32"
        self._dtype = getattr(torch, used_dtype)
        if used_dtype != dtype:
            self.notice = f"this processor has no {dtype} arithmetic, so float32 stands in for it"
        self._model: Any = None
        self._cache: RowCache
        self._decode_step: DecodeStep
        self._step_threads: StepThreads

    def load(self) -> None:
        """Load the weights, pack them and record the decode step; torch starts its threads on this thread."""
        # The model server sets OMP_NUM_THREADS=1 for its workers, and this process descends from one.
        threads = self._threads or _available_cores()
        torch.set_num_threads(threads)
        check_weights(self._model_dir)
        AttentionInterface.register(_ATTENTION, attend)
        try:
            self._model = AutoModelForCausalLM.from_pretrained(
                self._model_dir,
                torch_dtype=self._dtype,
                attn_implementation=_ATTENTION,
                local_files_only=True,
            ).eval()
        except Exception as error:
            if is_transient(error):
                raise
            # Any other error of transformers or safetensors comes from the files: loading again will not
            # help.
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
        # Recording is Python's work around small operators, whose threads only wait for each other: on a busy
        # machine it took ten times as long with two of them.
        torch.set_num_threads(1)
        self._record()
        torch.set_num_threads(threads)
        self._step_threads = StepThreads(threads)

    @torch.inference_mode()
    def _record(self) -> None:
        # Each row gets a prompt of its own: over an empty cache a step gives the same at any position.
        batch, longest = self.shapes.batch_size, self.shapes.max_context_length
        prompts = [
            [(3 * row + index) % 50 for index in range(min(1 + row % 8, longest))] for row in range(batch)
        ]
        self._prefill([PrefillChunk(row, ids) for row, ids in enumerate(prompts)], [0] * batch)

        def inputs(rows: int, back: int = 0) -> list[torch.Tensor]:
            return self._step_inputs(list(range(rows)), [len(ids) - back for ids in prompts[:rows]])

        self._decode_step = record_decode_step(
            self._model, inputs(min(2, batch)), checks=[inputs(batch), inputs(batch, back=1), inputs(1)]
        )

    @torch.inference_mode()
    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        # The model gets all chunks as if they were one text: its linear layers treat each token alone, and
        # are faster with more of them. Attention and cache treat each segment by itself.
        segments, offset = [], 0
        for chunk, start in zip(chunks, starts, strict=True):
            segments.append(Segment(chunk.row, start, len(chunk.ids), offset, self._dtype))
            offset += len(chunk.ids)
        self._cache.segments = segments
        positions = torch.cat([torch.arange(segment.start, segment.end) for segment in segments])
        input_ids = torch.tensor([token_id for chunk in chunks for token_id in chunk.ids])
        last_tokens = torch.tensor([segment.offset + segment.tokens - 1 for segment in segments])
        output = self._model(
            input_ids=input_ids[None],
            position_ids=positions[None],
            attention_mask=NO_MASK,
            past_key_values=self._cache,
            # The logits of every token would be 49,152 floats each.
            logits_to_keep=last_tokens,
            cache_position=positions,
            segments=segments,  # transformers passes it on to attend
        )
        return StepOutput(output.logits[0].float())

    @torch.inference_mode()
    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        # Rows 0..n are a view of the cache, without a copy. Those among them that are not live compute a
        # result that is dropped, at the position that their next prefill overwrites.
        count = rows[-1] + 1
        all_ids = [0] * count
        all_positions = [self._partial_lengths.get(row, 0) for row in range(count)]
        for row, token_id, position in zip(rows, ids, positions, strict=True):
            all_ids[row], all_positions[row] = token_id, position
        with self._step_threads.step():
            logits = self._decode_step(*self._step_inputs(all_ids, all_positions))
        return StepOutput(logits if count == len(rows) else logits[list(rows)])

    def _step_inputs(self, ids: Sequence[int], positions: Sequence[int]) -> list[torch.Tensor]:
        """The arguments of a decode step of the first rows, one id and one position per row."""
        position_ids = torch.tensor(positions)
        length = max(positions) + 1
        mask = torch.where(torch.arange(length) <= position_ids[:, None], 0.0, float("-inf")).to(self._dtype)
        return [
            torch.tensor(ids)[:, None],
            position_ids[:, None],
            mask[:, None, None, :],
            torch.arange(len(ids)),
            *self._cache.views(len(ids), length),
        ]


def check_weights(model_dir: Path) -> None:
    """Check that every shard named by the index is there.

    Raises:
        ModelDirectoryError: naming the missing files, or the index if it is damaged.
    """
    try:
        names = weight_files(model_dir)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelDirectoryError(
            f"{model_dir / WEIGHTS_INDEX} is damaged ({error!r}); make the package again"
        ) from None
    missing = sorted(name for name in names if not (model_dir / name).exists())
    if missing:
        raise ModelDirectoryError(
            f"the model directory {model_dir} lacks {', '.join(missing)}; make the package again"
        )


def native_dtypes(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The precisions in which this processor multiplies matrices.

    Others are emulated, which is several times slower than float32.
    """
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    dtypes = {"float32"}
    if flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        dtypes.add("bfloat16")
    if flags & {"avx512_fp16", "amx_fp16", "asimdhp"}:
        dtypes.add("float16")
    return frozenset(dtypes)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
