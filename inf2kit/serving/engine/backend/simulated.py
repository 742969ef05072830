"""The simulated backend: no model, but tokens that depend on the row's ids, at a pace that settings give.

It serves tests and measurements that a real model would obscure: a load of 20 s, a device that never answers,
or outputs that must be the same on every run. Every answer says that it is simulated.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import torch

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.backend.base import Backend, PrefillChunk, StepOutput, is_transient
from inf2kit.serving.engine.backend.pace import Pace
from inf2kit.serving.model_dir import MODEL_CONFIG
from inf2kit.serving.shapes import StaticShapes

#: Most seconds by which steps may end late and be made up for.
_MADE_UP_S = 0.1


class SimulatedBackend(Backend):
    """Logits that depend on the row's own ids only.

    Args:
        model_dir: Its ``config.json`` gives the size of the vocabulary.
        shapes: The static shapes.
        load_seconds: Duration of loading.
        step_seconds: Duration of a prefill or a decode step.
        row_step_seconds: What each live row adds to a decode step.
        stall_seconds: What a prefill adds to the decode step after it.
        hang_after: Number of the step that never ends, as on a stuck device; 0 for none.
        fail_after: Number of the step that raises an error; 0 for none.
        crash_on_length: Prompts of this many tokens abort the process, like one that breaks the runtime; 0
            for none.
        **lengths: ``prefill_256_seconds``, ``step_512_seconds`` and others like them, as ``Pace`` describes.
            With a ``prefill_`` of any length prompts are prefilled whole and one by one, as by a compiled
            graph.
    """

    max_prefill_tokens: int | None = 256
    notice = "simulated: these tokens come from the simulated backend, not from a model"

    def __init__(
        self,
        model_dir: Path,
        shapes: StaticShapes,
        *,
        load_seconds: float = 0.0,
        step_seconds: float = 0.001,
        row_step_seconds: float = 0,
        stall_seconds: float = 0,
        hang_after: float = 0,
        fail_after: float = 0,
        crash_on_length: float = 0,
        **lengths: float,
    ) -> None:
        super().__init__(shapes)
        self._pace = Pace(step_seconds, row_step_seconds, lengths)
        if self._pace.has_prefills:
            self.max_prefill_tokens = None
            self.notice = "simulated: made-up tokens at a speed that was set, not from a model"
        self._stall_s = stall_seconds
        # Seconds that the next decode step takes more, and when the last prefill or step ended.
        self._stalled_s = 0.0
        self._ended_at = 0.0
        self._config_path = model_dir / MODEL_CONFIG
        self._load_s = load_seconds
        self._hang_after, self._fail_after = hang_after, fail_after
        self._crash_on_length = crash_on_length
        self._steps = 0
        self._vocabulary_size = 0
        self._random = torch.empty(0)
        # A checksum of the ids of each row selects its logits.
        self._checksums: dict[int, int] = {}

    def load(self) -> None:
        """Read the size of the vocabulary, and wait for ``load_seconds``."""
        try:
            self._vocabulary_size = int(
                json.loads(self._config_path.read_text(encoding="utf-8"))["vocab_size"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if is_transient(error):
                raise
            raise ModelDirectoryError(
                f"{self._config_path} cannot be read ({error}); make the package again"
            ) from None
        generator = torch.Generator().manual_seed(0)
        self._random = torch.randn(2 * self._vocabulary_size, generator=generator) * 3
        # More threads would only wait for each other, which makes a step's duration vary.
        torch.set_num_threads(1)
        time.sleep(self._load_s)

    def _prefill(self, chunks: Sequence[PrefillChunk], starts: Sequence[int]) -> StepOutput:
        began = self._begin()
        for chunk, start in zip(chunks, starts, strict=True):
            if chunk.last and start + len(chunk.ids) == self._crash_on_length:
                os.abort()
            previous = self._checksums[chunk.row] if start else 0
            self._checksums[chunk.row] = zlib.crc32(array("q", chunk.ids).tobytes(), previous)
        output = StepOutput(self._logits([chunk.row for chunk in chunks]))
        tokens = sum(len(chunk.ids) for chunk in chunks)
        self._stalled_s = self._stall_s
        self._end(began + self._pace.prefill_s(tokens))
        return output

    def _decode(self, rows: Sequence[int], ids: Sequence[int], positions: Sequence[int]) -> StepOutput:
        began = self._begin()
        for row, token_id in zip(rows, ids, strict=True):
            self._checksums[row] = zlib.crc32(array("q", [token_id]).tobytes(), self._checksums[row])
        output = StepOutput(self._logits(rows))
        self._end(began + self._pace.step_s(len(rows), max(positions)) + self._stalled_s)
        self._stalled_s = 0.0
        return output

    def _begin(self) -> float:
        """Count a step, and return when it began.

        With other rows at work, it began when the last one ended: what the host does between two steps is
        part of a step's time, as it is of times that were measured from outside.
        """
        self._steps += 1
        if self._steps == self._hang_after:
            threading.Event().wait()
        if self._steps == self._fail_after:
            raise RuntimeError("the simulated device failed")
        return self._ended_at if self._lengths else self._now()

    def _end(self, at: float) -> None:
        """Wait until a step ends. The next ones make up for one that ends late, as on a busy machine."""
        self._sleep(max(at - self._now(), 0.0))
        self._ended_at = max(at, self._now() - _MADE_UP_S)

    def _now(self) -> float:
        return time.monotonic()

    def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def _logits(self, rows: Sequence[int]) -> torch.Tensor:
        """Another window of the same random numbers for each checksum, which costs no more than a copy."""
        size = self._vocabulary_size
        starts = [self._checksums[row] % size for row in rows]
        return torch.stack([self._random[start : start + size] for start in starts])
