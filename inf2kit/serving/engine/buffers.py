"""Memory that every step uses again: new megabytes cost as much time as the arithmetic on them."""

from __future__ import annotations

import threading

import torch


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[str, torch.Tensor] = {}


_buffers = _Buffers()


def buffer(name: str, rows: int, columns: int) -> torch.Tensor:
    """Return a float32 tensor of this shape, in the memory of the last one of this name on this thread."""
    memory = _buffers.by_name.get(name)
    if memory is None or memory.numel() < rows * columns:
        memory = _buffers.by_name[name] = torch.empty(rows * columns)
    return memory[: rows * columns].view(rows, columns)
