"""A preset of one's own, as a user would write one, for the simulated backend."""

from __future__ import annotations

from pathlib import Path

_TEXT = """
description = "The simulated backend: tokens made up"
status = "simulated"
[model]
id = "inf2kit/simulated"
gated = false
[shapes]
batch_size = {rows}
sequence_length = {sequence_length}
[compute]
backend = "simulated"
instance_type = "local"
tensor_parallel_size = 1
dtype = "float32"
[serving]
queue_size = {queue_size}
"""


def write_preset(path: Path, *, rows: int = 8, sequence_length: int = 2048, queue_size: int = 4) -> str:
    """Write the preset, and return its path as text. Its name is that of the file."""
    text = _TEXT.format(rows=rows, sequence_length=sequence_length, queue_size=queue_size)
    path.write_text(text, encoding="utf-8")
    return str(path)
