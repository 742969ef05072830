"""CloudWatch Logs of endpoints: copies the containers' logs to the log groups that SageMaker uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moto.logs.models import logs_backends

from inf2kit.names import log_group_name
from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import compile_pattern, metric_value
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.errors import AwsError

#: Lines of one put, and characters of one line.
_LINES, _LINE = 1000, 8000


class ContainerLogs:
    """Copies new lines of containers' logs to moto's log groups, and applies the groups' metric filters.

    Args:
        account: The account of the log groups.
        region: The region of the log groups.
        folder: Has a folder for each endpoint, with a file ``VARIANT-INSTANCE.log`` for each container.
        metrics: Receives the values of the metric filters.
    """

    def __init__(self, account: str, region: str, folder: Path, metrics: Metrics) -> None:
        self._account, self._region, self._folder, self._metrics = account, region, folder, metrics
        self._offsets: dict[Path, int] = {}
        self._lock = threading.Lock()

    def collect(self, endpoints: Iterable[str]) -> None:
        """Copy the new lines of some endpoints.

        An endpoint is collected once more when its processes have ended: nothing is lost, and its log group
        can be deleted and does not come back.
        """
        with self._lock:
            for endpoint in endpoints:
                for path in sorted((self._folder / endpoint).glob("*.log")):
                    lines = self._new_lines(path)
                    if lines:
                        self._put(endpoint, path.stem, lines)

    def _new_lines(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            lines, newline, _ = file.read().rpartition(b"\n")
        self._offsets[path] = self._offsets.get(path, 0) + len(lines) + len(newline)
        return [line for line in lines.decode("utf-8", errors="replace").split("\n") if line]

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
        for metric_filter in backend.filters.get_matching_filters(log_group_name=group):
            self._apply(metric_filter, lines)

    def _apply(self, metric_filter: Mapping[str, Any], lines: list[str]) -> None:
        try:
            matches = compile_pattern(metric_filter["filterPattern"])
        except AwsError:
            # moto accepts patterns that are not simulated; in a stack they are refused.
            return
        matched = [line[:_LINE] for line in lines if matches(line[:_LINE])]
        for transformation in metric_filter["metricTransformations"]:
            values = [metric_value(line, str(transformation["metricValue"])) for line in matched]
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
