"""The three tables of Hugging Face's post on Llama 2 and Inferentia2, with which ours are compared."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from inf2kit import toml

SOURCE = "https://huggingface.co/blog/inferentia-llama2"
#: The columns: input tokens of the encoding time, new tokens of the other two tables.
LENGTHS = (256, 512, 768)
#: Input tokens of the end-to-end latency and the throughput.
INPUT_TOKENS = 256
_FILE = Path(__file__).with_name("speeds.toml")


@dataclass(frozen=True)
class PublishedTables:
    """What was published of one preset, for each of ``LENGTHS``.

    Attributes:
        encoding_s: Seconds to the first token of the whole batch, by input tokens.
        end_to_end_s: Seconds of a whole call with 256 input tokens, by new tokens.
        throughput: Input and new tokens a second, of all rows.
    """

    encoding_s: tuple[float, ...]
    end_to_end_s: tuple[float, ...]
    throughput: tuple[float, ...]

    def unrounded_end_to_end_s(self, rows: int) -> list[float]:
        """Return the latencies with more digits than were printed.

        Each one is rounded to a tenth of a second, and the throughput, which is
        ``rows x (input + new tokens) / latency``, to a whole number: it is the middle of what both allow.
        """
        latencies = []
        for length, printed_s, throughput in zip(LENGTHS, self.end_to_end_s, self.throughput, strict=True):
            tokens = rows * (INPUT_TOKENS + length)
            low = max(printed_s - 0.05, tokens / (throughput + 0.5))
            high = min(printed_s + 0.05, tokens / (throughput - 0.5))
            latencies.append((low + high) / 2)
        return latencies


@functools.cache
def published_tables() -> Mapping[str, PublishedTables]:
    """Return the tables of each preset that has some."""
    presets = toml.read(_FILE)
    return MappingProxyType(
        {
            name: PublishedTables(**{table: tuple(map(float, row)) for table, row in tables.items()})
            for name, tables in presets.items()
        }
    )
