"""CloudWatch's metrics of endpoints, from the calls that really were made."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.cloudwatch.models import MetricAggregatedDatum, MetricDatumBase
from moto.core.common_models import CloudWatchMetricProvider

NAMESPACE = "AWS/SageMaker"
#: Seconds that are kept, and values of a second that percentiles are made of.
_KEPT_S, _VALUES = 3 * 3600, 200

_SIMPLE = ("Sum", "SampleCount", "Average", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")
_TRIMMED = re.compile(r"TM\((\d+(?:\.\d+)?)?%?:(\d+(?:\.\d+)?)?%?\)")

Dimensions = tuple[tuple[str, str], ...]


@dataclass
class Second:
    """What one second saw of one metric."""

    at: int
    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """One more value."""
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        if len(self.values) < _VALUES:
            self.values.append(value)


class Metrics:
    """Counts by the second, for three hours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str, Dimensions], deque[Second]] = {}

    def add(self, name: str, value: float, dimensions: Mapping[str, str], namespace: str = NAMESPACE) -> None:
        """One value, now."""
        now = int(time.time())
        key = (namespace, name, tuple(sorted(dimensions.items())))
        with self._lock:
            seconds = self._seconds.setdefault(key, deque())
            if not seconds or seconds[-1].at != now:
                seconds.append(Second(now))
            seconds[-1].add(value)
            while seconds[0].at < now - _KEPT_S:
                seconds.popleft()

    def between(
        self, name: str, dimensions: Mapping[str, str], start: float, end: float, namespace: str = NAMESPACE
    ) -> list[Second]:
        """The seconds of a metric in which something was seen, from ``start`` on and before ``end``."""
        key = (namespace, name, tuple(sorted(dimensions.items())))
        with self._lock:
            return [second for second in self._seconds.get(key, ()) if start <= second.at < end]

    def all(self) -> Iterator[tuple[str, str, Dimensions, Second]]:
        """Every second of every metric."""
        with self._lock:
            found = {key: list(seconds) for key, seconds in self._seconds.items()}
        for (namespace, name, dimensions), seconds in found.items():
            for second in seconds:
                yield namespace, name, dimensions, second


def statistic(seconds: list[Second], name: str) -> float | None:
    """A CloudWatch statistic, such as ``Sum``, ``p50`` or ``TM(10%:90%)``; None where there is no data.

    Raises:
        ValueError: the statistic is not computed here.
    """
    trimmed, percentile = _TRIMMED.fullmatch(name), _PERCENTILE.fullmatch(name)
    if name not in _SIMPLE and not trimmed and not percentile:
        raise ValueError(f"the statistic {name} is not computed in this rehearsal")
    if not seconds:
        return None
    count, total = sum(each.count for each in seconds), sum(each.total for each in seconds)
    simple = {
        "Sum": total,
        "SampleCount": float(count),
        "Average": total / count,
        "Minimum": min(each.least for each in seconds),
        "Maximum": max(each.most for each in seconds),
    }
    if name in simple:
        return simple[name]
    values = sorted(value for each in seconds for value in each.values)
    if trimmed:
        low, high = (
            int(float(share or default) / 100 * len(values))
            for share, default in ((trimmed[1], 0), (trimmed[2], 100))
        )
        kept = values[low : max(high, low + 1)]
        return sum(kept) / len(kept)
    rank = float(name.removeprefix("p")) / 100
    return values[min(len(values) - 1, int(rank * len(values)))]


#: moto asks a class, so what it shows lies beside the class.
_shown: list[tuple[str, Metrics]] = []


def show(region: str, metrics: Metrics) -> None:
    """Let GetMetricData and its like find these metrics."""
    _shown[:] = [(region, metrics)]


class EndpointMetrics(CloudWatchMetricProvider):
    """How moto asks for metrics that nobody has put."""

    @staticmethod
    def get_cloudwatch_metrics(account_id: str, region: str) -> list[MetricDatumBase]:  # noqa: ARG004
        """All of them, a datum for each second."""
        return [
            MetricAggregatedDatum(
                namespace,
                name,
                second.least,
                second.most,
                second.count,
                second.total,
                _named(dimensions),
                dt.datetime.fromtimestamp(second.at, dt.timezone.utc).replace(tzinfo=None),
            )
            for where, metrics in _shown
            if where == region
            for namespace, name, dimensions, second in metrics.all()
        ]


def _named(dimensions: Dimensions) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in dimensions]
