"""Ranks that run at the same time, each in a thread, and what they exchange."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

_THREAD = threading.local()


class _Ring:
    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.parts: list[Any] = [None] * count


def exchange(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that all ranks give here, in the order of ranks."""
    ring: _Ring | None = getattr(_THREAD, "ring", None)
    if ring is None:
        return [tensor]
    ring.parts[_THREAD.rank] = tensor
    ring.barrier.wait()
    parts = list(ring.parts)
    ring.barrier.wait()
    return parts


def run_together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run one function for each rank at the same time, and return their results."""
    if len(functions) == 1:
        return [functions[0]()]
    ring = _Ring(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[Exception] = []

    def run(rank: int) -> None:
        _THREAD.ring, _THREAD.rank = ring, rank
        try:
            with torch.inference_mode():
                results[rank] = functions[rank]()
        except threading.BrokenBarrierError:
            pass  # another rank has failed
        except Exception as error:
            errors.append(error)
            ring.barrier.abort()

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
