"""The timed double: no model, tokens made up from the row's ids, at a pace one sets.

It stands in where a real model would hide what is looked at: a load that takes 20 s, a device that never
answers, an engine whose every output must be exactly the same on every run. Its answers say that they are
simulated.
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
from inf2kit.serving.engine.backend.base import Backend, Chunk, Step
from inf2kit.serving.shapes import StaticShapes


class SimulatedBackend(Backend):
    """Logits that depend on nothing but the row's own ids.

    Args:
        model_dir: For the size of the vocabulary, in ``config.json``.
        shapes: The static shapes.
        load_seconds: That loading takes.
        step_seconds: That a prefill or a decode step takes.
        hang_after: Steps after which none ever ends, as on a device that is stuck; 0 for never.
        crash_on_length: Tokens of a prompt that ends the process, as one that breaks a runtime; 0 for none.
    """

    prefill_tokens = 256
    notice = "simulated: these tokens come from the simulated backend, not from a model"

    def __init__(
        self,
        model_dir: Path,
        shapes: StaticShapes,
        *,
        load_seconds: float = 0.0,
        step_seconds: float = 0.001,
        hang_after: float = 0,
        crash_on_length: float = 0,
    ) -> None:
        super().__init__(shapes)
        self._config = model_dir / "config.json"
        self._load_s, self._step_s = load_seconds, step_seconds
        self._hang_after, self._crash_on_length = hang_after, crash_on_length
        self._steps = 0
        self._vocabulary = 0
        self._history: dict[int, int] = {}

    def load(self) -> None:
        """Wait as long as a real load would."""
        try:
            self._vocabulary = int(json.loads(self._config.read_text(encoding="utf-8"))["vocab_size"])
        except (OSError, ValueError, KeyError) as error:
            raise ModelDirectoryError(
                f"{self._config} cannot be read ({error}); make the package again"
            ) from None
        # Made-up logits are worth no second thread, and threads that wait for each other are no step's time.
        torch.set_num_threads(1)
        time.sleep(self._load_s)

    def _prefill(self, chunks: Sequence[Chunk], starts: Sequence[int]) -> Step:
        self._pass_a_step()
        for chunk, start in zip(chunks, starts, strict=True):
            if chunk.last and start + len(chunk.ids) == self._crash_on_length:
                os.abort()
            before = self._history[chunk.row] if start else 0
            self._history[chunk.row] = zlib.crc32(array("q", chunk.ids).tobytes(), before)
        return Step(self._logits([chunk.row for chunk in chunks]))

    def _decode(self, rows: Sequence[int], ids: Sequence[int], _: Sequence[int]) -> Step:
        self._pass_a_step()
        for row, token_id in zip(rows, ids, strict=True):
            self._history[row] = zlib.crc32(array("q", [token_id]).tobytes(), self._history[row])
        return Step(self._logits(rows))

    def _pass_a_step(self) -> None:
        self._steps += 1
        if self._steps == self._hang_after:
            threading.Event().wait()
        time.sleep(self._step_s)

    def _logits(self, rows: Sequence[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(self._history[row]) for row in rows]
        return torch.stack(
            [torch.randn(self._vocabulary, generator=generator) * 3 for generator in generators]
        )
