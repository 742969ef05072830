"""One thread computes while others would wait for each other, with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend
from inf2kit.serving.engine.backend.cpu.threads import StepThreads
from inf2kit.serving.shapes import StaticShapes


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Clocks:
    """Seconds that pass, and those of them in which the thread computes."""

    def __init__(self) -> None:
        self.now = self.computed = 0.0

    def step(self, threads: StepThreads, *, computes: float, waits: float) -> int:
        """Take a step and return the number of threads that the next one has."""
        with threads.step():
            self.now += computes + waits
            self.computed += computes
        return torch.get_num_threads()


def test_a_step_that_mostly_waited_is_followed_by_steps_of_one_thread() -> None:
    clocks = Clocks()
    threads = StepThreads(2, lambda: clocks.now, lambda: clocks.computed)
    torch.set_num_threads(2)
    assert clocks.step(threads, computes=0.04, waits=0.01) == 2
    assert clocks.step(threads, computes=0.04, waits=2.0) == 1
    counts = [clocks.step(threads, computes=0.05, waits=0.05) for _ in range(20)]
    assert counts == [1] * 19 + [2]
    assert clocks.step(threads, computes=0.04, waits=0.01) == 2
    assert clocks.step(threads, computes=0.04, waits=1.0) == 1


@torch.inference_mode()
def test_the_number_of_threads_changes_no_bit_of_the_logits(small_weights: Path) -> None:
    backend = CpuBackend(small_weights, StaticShapes.resolve(8, 300), "float32", threads=2)
    backend.load()

    def compute(threads: int, rows: int) -> list[torch.Tensor]:
        torch.set_num_threads(threads)
        live = list(range(rows))
        outputs = [
            backend.prefill([PrefillChunk(row, [5 + (7 * i + row) % 900 for i in range(9 + 30 * row)])])
            for row in live
        ]
        outputs += [backend.decode(live, [5 + step] * rows) for step in range(3)]
        for row in live:
            backend.release(row)
        return [output.logits.clone() for output in outputs]

    for rows in (1, 2, 8):
        for alone, together in zip(compute(1, rows), compute(2, rows), strict=True):
            assert torch.equal(alone, together), rows
