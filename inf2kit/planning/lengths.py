"""Numbers of tokens, as people write them: one, a range, or a mean and its deviation."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

#: A number of tokens that no row has.
MOST_TOKENS = 10_000_000
_FORM = re.compile(r"(\d+(?:\.\d+)?)(?:(-|~)(\d+(?:\.\d+)?))?")
_FORMS = "a number such as 256, a range such as 100-500, or MEAN~DEVIATION such as 220~90"


@dataclass(frozen=True)
class Lengths:
    """A distribution of a number of tokens.

    Attributes:
        low: The least of a range; the mean otherwise.
        high: The largest of a range; the mean otherwise.
        deviation: The standard deviation of a log-normal distribution; 0 for a range or a fixed length.
    """

    low: float
    high: float
    deviation: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """Read ``256``, ``100-500`` (each length as likely as the next) or ``220~90`` (log-normal).

        Raises:
            ValueError: it is none of these.
        """
        match = _FORM.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ValueError(f"{text!r} is no length; give {_FORMS}")
        first, sign, second = float(match[1]), match[2], float(match[3] or match[1])
        if max(first, second) > MOST_TOKENS:
            raise ValueError(f"{text!r} is more than the {MOST_TOKENS:,} tokens of any model's row")
        if first < 1:
            raise ValueError(f"{text!r} has fewer tokens than 1; give {_FORMS}")
        if sign == "~":
            return cls(first, first, second)
        if first % 1 or second % 1:
            raise ValueError(f"{text!r} has parts of a token; give {_FORMS}")
        if second < first:
            raise ValueError(f"{text!r} goes from more to fewer tokens; write {second:g}-{first:g}")
        return cls(first, second)

    @property
    def mean(self) -> float:
        """The mean number of tokens."""
        return (self.low + self.high) / 2

    def draw(self, generator: random.Random) -> int:
        """Draw a number of tokens, at least 1."""
        if not self.deviation:
            return generator.randint(round(self.low), round(self.high))
        variance = math.log(1 + (self.deviation / self.mean) ** 2)
        drawn = self.mean * math.exp(generator.gauss(-variance / 2, math.sqrt(variance)))
        return max(1, round(drawn))

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.deviation:
            return f"{self.mean:.10g}~{self.deviation:.10g}"
        return f"{self.low:.0f}" if self.low == self.high else f"{self.low:.0f}-{self.high:.0f}"
