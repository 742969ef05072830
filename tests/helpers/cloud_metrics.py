"""Metrics of CloudWatch in the rehearsal cloud."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any


def find_maximum(aws: Callable[..., Any], namespace: str, name: str, dimensions: dict[str, str]) -> float:
    """Return the maximum of a metric within the last five minutes; 0 without data."""
    now = dt.datetime.now(dt.timezone.utc)
    points = aws("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - dt.timedelta(minutes=5),
        EndTime=now + dt.timedelta(minutes=1),
        Period=300,
        Statistics=["Maximum"],
    )["Datapoints"]
    return max((float(point["Maximum"]) for point in points), default=0.0)
