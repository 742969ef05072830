"""Which metrics SageMaker has of an endpoint; those of an asynchronous one are others."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.sagemaker.async_inference import FAULTS
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.runtime.server import Outcome, Target

_OF_INSTANCES = "/aws/sagemaker/Endpoints"


class Observed:
    """Turns what happens to endpoints into metrics.

    Args:
        metrics: Where they are counted.
        endpoints: All endpoints, by name.
    """

    def __init__(self, metrics: Metrics, endpoints: Mapping[str, Endpoint]) -> None:
        self._metrics, self._endpoints = metrics, endpoints

    def called(self, name: str, target: Target, outcome: Outcome) -> None:
        """A call that somebody waited for has ended."""
        fleets = self._endpoints[name].fleets if name in self._endpoints else []
        instances = sum(fleet.size for fleet in fleets if fleet.variant == target.variant)
        self._add(
            {"EndpointName": name, "VariantName": target.variant},
            Invocations=1,
            InvocationsPerInstance=1 / max(1, instances),
            # Whatever was no 2XX: an answer of the model, none at all, and none in time.
            InvocationModelErrors=not 200 <= outcome.status < 300,
            OverheadLatency=1e6 * outcome.overhead_s,
            **_answered(outcome),
        )

    def processed(self, name: str, target: Target, outcome: Outcome, waited_s: float, fault: str) -> None:
        """A call whose answer goes to S3 has ended.

        Args:
            name: Of the endpoint.
            target: The container.
            outcome: What the container answered, if it was called.
            waited_s: Seconds in the queue.
            fault: One of ``FAULTS``, or nothing.
        """
        was_called = fault not in ("ExpiredRequests", "RequestDownloadFailures")
        self._add(
            {"EndpointName": name, "VariantName": target.variant},
            InvocationsProcessed=1,
            TimeInBacklog=1e3 * waited_s,
            **{kind: kind == fault for kind in FAULTS},
            **(_answered(outcome) if was_called else {}),
        )

    def count(self, backlog: Mapping[str, tuple[int, float]]) -> None:
        """What is there at this moment.

        Args:
            backlog: Asynchronous calls that wait or run, and the seconds since the oldest came, by endpoint.
        """
        # Of all cores together, of this machine: it is what the instances run on.
        load = psutil.cpu_percent() * (psutil.cpu_count() or 1)
        for endpoint in list(self._endpoints.values()):
            asynchronous = "AsyncInferenceConfig" in endpoint.config
            for fleet in endpoint.fleets:
                dimensions = {"EndpointName": endpoint.name, "VariantName": fleet.variant}
                if fleet.size:
                    self._metrics.add("CPUUtilization", load, dimensions, _OF_INSTANCES)
                if not asynchronous:
                    self._add(dimensions, ConcurrentRequestsPerModel=fleet.in_flight)
            if asynchronous:
                calls, oldest_s = backlog.get(endpoint.name, (0, 0.0))
                instances = sum(fleet.size for fleet in endpoint.fleets)
                self._add(
                    {"EndpointName": endpoint.name},
                    ApproximateBacklogSize=calls,
                    ApproximateAgeOfOldestRequest=oldest_s,
                    HasBacklogWithoutCapacity=calls > 0 and not instances,
                    **({"ApproximateBacklogSizePerInstance": calls / instances} if instances else {}),
                )

    def _add(self, dimensions: Mapping[str, str], **values: float) -> None:
        for name, value in values.items():
            self._metrics.add(name, float(value), dimensions)


def _answered(outcome: Outcome) -> dict[str, float]:
    """What the model itself has answered: no answer is none with 5XX."""
    return {
        "Invocation4XXErrors": 400 <= outcome.status < 500,
        "Invocation5XXErrors": outcome.status >= 500,
        "ModelLatency": 1e6 * outcome.model_s,
    }
