"""The metrics that SageMaker publishes for an endpoint; an asynchronous endpoint has others."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.sagemaker.async_inference import FAULTS, Backlog
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.runtime.containers import Outcome, Target

_INSTANCES_NAMESPACE = "/aws/sagemaker/Endpoints"


class EndpointMetrics:
    """Counts calls and instances as CloudWatch metrics.

    Args:
        metrics: Receives the values.
        endpoints: The endpoints by name.
    """

    def __init__(self, metrics: Metrics, endpoints: Mapping[str, Endpoint]) -> None:
        self._metrics, self._endpoints = metrics, endpoints

    def record_call(self, name: str, target: Target, outcome: Outcome) -> None:
        """Count a synchronous call that has ended."""
        fleets = self._endpoints[name].fleets if name in self._endpoints else []
        instances = sum(fleet.size for fleet in fleets if fleet.variant == target.variant)
        self._add(
            {"EndpointName": name, "VariantName": target.variant},
            Invocations=1,
            InvocationsPerInstance=1 / max(1, instances),
            # Any status but 2XX, no answer, and no answer in time.
            InvocationModelErrors=not 200 <= outcome.status < 300,
            OverheadLatency=1e6 * outcome.overhead_s,
            **_model_metrics(outcome),
        )

    def record_async_call(
        self, name: str, target: Target, outcome: Outcome, waited_s: float, fault: str
    ) -> None:
        """Count an asynchronous call that has ended.

        Args:
            name: The EndpointName.
            target: The container.
            outcome: The container's response, if the container was called.
            waited_s: Seconds in the queue.
            fault: One of ``FAULTS``; empty if nothing failed.
        """
        was_called = fault not in ("ExpiredRequests", "RequestDownloadFailures")
        self._add(
            {"EndpointName": name, "VariantName": target.variant},
            InvocationsProcessed=1,
            TimeInBacklog=1e3 * waited_s,
            **{kind: kind == fault for kind in FAULTS},
            **(_model_metrics(outcome) if was_called else {}),
        )

    def record_state(self, backlog: Mapping[str, Backlog]) -> None:
        """Count what runs at this moment.

        Args:
            backlog: The asynchronous calls of each endpoint.
        """
        # The load of all cores of this machine together, since all instances run on them.
        load = psutil.cpu_percent() * (psutil.cpu_count() or 1)
        for endpoint in list(self._endpoints.values()):
            asynchronous = "AsyncInferenceConfig" in endpoint.config
            for fleet in endpoint.fleets:
                dimensions = {"EndpointName": endpoint.name, "VariantName": fleet.variant}
                if fleet.size:
                    self._metrics.add("CPUUtilization", load, dimensions, _INSTANCES_NAMESPACE)
                if not asynchronous:
                    self._add(dimensions, ConcurrentRequestsPerModel=fleet.in_flight)
            if asynchronous:
                queued = backlog.get(endpoint.name, Backlog(0, 0.0))
                instances = sum(fleet.size for fleet in endpoint.fleets)
                self._add(
                    {"EndpointName": endpoint.name},
                    ApproximateBacklogSize=queued.calls,
                    ApproximateAgeOfOldestRequest=queued.oldest_s,
                    HasBacklogWithoutCapacity=queued.calls > 0 and not instances,
                    **({"ApproximateBacklogSizePerInstance": queued.calls / instances} if instances else {}),
                )

    def _add(self, dimensions: Mapping[str, str], **values: float) -> None:
        for name, value in values.items():
            self._metrics.add(name, float(value), dimensions)


def _model_metrics(outcome: Outcome) -> dict[str, float]:
    """The metrics of a container's response; no response does not count as a 5XX error."""
    return {
        "Invocation4XXErrors": 400 <= outcome.status < 500,
        "Invocation5XXErrors": outcome.status >= 500,
        "ModelLatency": 1e6 * outcome.model_s,
    }
