"""CloudWatch metrics of endpoints, counted from real calls."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.cloudwatch.models import MetricAggregatedDatum, MetricDatumBase
from moto.core.common_models import CloudWatchMetricProvider

NAMESPACE = "AWS/SageMaker"
#: Seconds for which metrics are kept, and the values of one second that percentiles use.
_RETENTION_S, _VALUES = 3 * 3600, 200

_SIMPLE = ("Sum", "SampleCount", "Average", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")
_TRIMMED = re.compile(r"TM\((\d+(?:\.\d+)?)?%?:(\d+(?:\.\d+)?)?%?\)")

Dimensions = tuple[tuple[str, str], ...]


@dataclass
class Second:
    """The values of one metric within one second.

    Attributes:
        timestamp: Seconds since the epoch.
        count: The number of values.
        total: Their sum.
        minimum: The smallest of them.
        maximum: The largest of them.
        values: The first of them, for percentiles.
    """

    timestamp: int
    count: int = 0
    total: float = 0.0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Add a value."""
        self.count += 1
        self.total += value
        self.minimum, self.maximum = min(self.minimum, value), max(self.maximum, value)
        if len(self.values) < _VALUES:
            self.values.append(value)


class Metrics:
    """Metrics by the second, of the last three hours.

    Args:
        now: Returns the seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str, Dimensions], deque[Second]] = {}

    def add(self, name: str, value: float, dimensions: Mapping[str, str], namespace: str = NAMESPACE) -> None:
        """Add a value at the present second."""
        now = int(self.now())
        key = (namespace, name, tuple(sorted(dimensions.items())))
        with self._lock:
            seconds = self._seconds.setdefault(key, deque())
            if not seconds or seconds[-1].timestamp != now:
                seconds.append(Second(now))
            seconds[-1].add(value)
            while seconds[0].timestamp < now - _RETENTION_S:
                seconds.popleft()

    def between(
        self, name: str, dimensions: Mapping[str, str], start: float, end: float, namespace: str = NAMESPACE
    ) -> list[Second]:
        """List the seconds with data of a metric, from ``start`` on and before ``end``."""
        key = (namespace, name, tuple(sorted(dimensions.items())))
        with self._lock:
            return [second for second in self._seconds.get(key, ()) if start <= second.timestamp < end]

    def periods(
        self,
        name: str,
        dimensions: Mapping[str, str],
        length_s: float,
        count: int,
        namespace: str = NAMESPACE,
        *,
        aligned: bool = False,
    ) -> list[list[Second]]:
        """List the data of the last periods, the oldest first.

        Args:
            name: The metric's name.
            dimensions: The metric's dimensions.
            length_s: Seconds of a period, of which it has one at least.
            count: Number of periods.
            namespace: The metric's namespace.
            aligned: Only periods that have ended and begin at multiples of their length. By default the last
                one ends now.
        """
        length_s = max(1.0, length_s)
        last = self.now() // length_s * length_s if aligned else float(int(self.now()) + 1)
        ends = [last - index * length_s for index in range(count)][::-1]
        return [self.between(name, dimensions, end - length_s, end, namespace) for end in ends]

    def all(self) -> Iterator[tuple[str, str, Dimensions, Second]]:
        """Iterate over every second of every metric."""
        with self._lock:
            snapshot = {key: list(seconds) for key, seconds in self._seconds.items()}
        for (namespace, name, dimensions), seconds in snapshot.items():
            for second in seconds:
                yield namespace, name, dimensions, second


def statistic(seconds: list[Second], name: str) -> float | None:
    """Compute a CloudWatch statistic, such as ``Sum``, ``p50`` or ``TM(10%:90%)``; None without data.

    Raises:
        ValueError: the statistic is not simulated.
    """
    trimmed, percentile = _TRIMMED.fullmatch(name), _PERCENTILE.fullmatch(name)
    if name not in _SIMPLE and not trimmed and not percentile:
        raise ValueError(f"the statistic {name} is not computed in this rehearsal")
    if not seconds:
        return None
    count, total = sum(second.count for second in seconds), sum(second.total for second in seconds)
    simple = {
        "Sum": total,
        "SampleCount": float(count),
        "Average": total / count,
        "Minimum": min(second.minimum for second in seconds),
        "Maximum": max(second.maximum for second in seconds),
    }
    if name in simple:
        return simple[name]
    values = sorted(value for second in seconds for value in second.values)
    if trimmed:
        low, high = (
            int(float(share or default) / 100 * len(values))
            for share, default in ((trimmed[1], 0), (trimmed[2], 100))
        )
        middle = values[low : max(high, low + 1)]
        return sum(middle) / len(middle)
    rank = float(name.removeprefix("p")) / 100
    return values[min(len(values) - 1, int(rank * len(values)))]


#: moto calls its metric providers as classes, so the metrics are kept in the module.
_published: list[tuple[str, Metrics]] = []


def publish(region: str, metrics: Metrics) -> None:
    """Make metrics visible to GetMetricData and the other operations that moto answers."""
    _published[:] = [(region, metrics)]


class MotoMetricProvider(CloudWatchMetricProvider):
    """Provides the published metrics to moto."""

    @staticmethod
    def get_cloudwatch_metrics(account_id: str, region: str) -> list[MetricDatumBase]:  # noqa: ARG004
        """List all published metrics, with one datum for each second."""
        return [
            MetricAggregatedDatum(
                namespace,
                name,
                second.minimum,
                second.maximum,
                second.count,
                second.total,
                _as_list(dimensions),
                dt.datetime.fromtimestamp(second.timestamp, dt.timezone.utc).replace(tzinfo=None),
            )
            for published_region, metrics in _published
            if published_region == region
            for namespace, name, dimensions, second in metrics.all()
        ]


def _as_list(dimensions: Dimensions) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in dimensions]
