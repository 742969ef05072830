"""CloudWatch Logs of endpoints: what their containers write, where SageMaker would put it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moto.logs.models import logs_backends

from inf2kit.names import log_group_name
from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import matcher, value_of
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.errors import AwsError

#: Of the lines that are put at a time, and of one line (a limit of the service).
_LINES, _LINE = 1000, 8000


class Logs:
    """Puts new lines of containers' logs into moto's log groups, and through the groups' metric filters.

    Args:
        account: Of the groups.
        region: Of the groups.
        folder: A folder for each endpoint, with a file ``VARIANT-INSTANCE.log`` for each container.
        metrics: Where the filters count.
    """

    def __init__(self, account: str, region: str, folder: Path, metrics: Metrics) -> None:
        self._account, self._region, self._folder, self._metrics = account, region, folder, metrics
        self._read: dict[Path, int] = {}

    def look(self, endpoints: Iterable[str]) -> None:
        """Put what is new of some endpoints."""
        for endpoint in endpoints:
            for path in sorted((self._folder / endpoint).glob("*.log")):
                lines = self._new_lines(path)
                if lines:
                    self._put(endpoint, path.stem, lines)

    def _new_lines(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole) + len(newline)
        return [line for line in whole.decode("utf-8", errors="replace").split("\n") if line]

    def _put(self, endpoint: str, name: str, lines: list[str]) -> None:
        backend: Any = logs_backends[self._account][self._region]
        group = log_group_name(endpoint)
        variant, _, number = name.rpartition("-i-")
        stream = f"{variant}/i-{number}"
        if group not in backend.groups:
            backend.create_log_group(group, {})
        if stream not in backend.groups[group].streams:
            backend.create_log_stream(group, stream)
        now = int(1000 * time.time())
        for start in range(0, len(lines), _LINES):
            events = [{"timestamp": now, "message": line[:_LINE]} for line in lines[start : start + _LINES]]
            backend.put_log_events(group, stream, events)
        for each in backend.filters.get_matching_filters(log_group_name=group):
            self._count(each, lines)

    def _count(self, metric_filter: Mapping[str, Any], lines: list[str]) -> None:
        try:
            matches = matcher(metric_filter["filterPattern"])
        except AwsError:
            # The service took it; a stack would have been refused.
            return
        matched = [line[:_LINE] for line in lines if matches(line[:_LINE])]
        for transformation in metric_filter["metricTransformations"]:
            values = [value_of(line, str(transformation["metricValue"])) for line in matched]
            if not matched and transformation.get("defaultValue") is not None:
                values = [float(transformation["defaultValue"])]
            for value in values:
                if value is not None:
                    self._metrics.add(
                        transformation["metricName"],
                        value,
                        {},
                        transformation["metricNamespace"],
                    )
