"""The metrics of calls and instances."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.sagemaker.async_inference import Backlog
from inf2kit.rehearsal.cloud.sagemaker.endpoint_metrics import EndpointMetrics
from inf2kit.rehearsal.runtime.containers import Outcome, Target

TARGET = Target("http://nowhere", "InService", "main")


class Rig:
    """The metrics of one endpoint; a namespace stands in for it, since only its numbers are read."""

    def __init__(self, *, asynchronous: bool = False, size: int = 2) -> None:
        self.metrics = Metrics()
        config = {"AsyncInferenceConfig": {}} if asynchronous else {}
        fleet = SimpleNamespace(variant="main", size=size, in_flight=3)
        endpoints: Any = {"e": SimpleNamespace(name="e", config=config, fleets=[fleet])}
        self.endpoint_metrics = EndpointMetrics(self.metrics, endpoints)

    def sums(self) -> dict[str, float]:
        sums: dict[str, float] = {}
        for namespace, name, _, second in self.metrics.all():
            assert namespace in ("AWS/SageMaker", "/aws/sagemaker/Endpoints")
            sums[name] = sums.get(name, 0.0) + second.total
        return sums


@pytest.mark.parametrize(
    ("status", "model", "client", "server"),
    [(200, 0, 0, 0), (422, 1, 1, 0), (429, 1, 1, 0), (500, 1, 0, 1), (0, 1, 0, 0)],
)
def test_no_response_is_a_model_error_and_no_5xx(status: int, model: int, client: int, server: int) -> None:
    rig = Rig()
    rig.endpoint_metrics.record_call("e", TARGET, Outcome(status, 0.5, 0.001))
    sums = rig.sums()
    names = ("InvocationModelErrors", "Invocation4XXErrors", "Invocation5XXErrors")
    assert [sums[name] for name in names] == [model, client, server]
    assert sums["Invocations"] == 1
    assert sums["InvocationsPerInstance"] == 0.5
    assert sums["ModelLatency"] == 500_000


def test_an_asynchronous_call_has_metrics_of_its_own() -> None:
    rig = Rig(asynchronous=True)
    rig.endpoint_metrics.record_async_call("e", TARGET, Outcome(0, 9.0, 0.0), 2.0, "InvocationFailures")
    rig.endpoint_metrics.record_async_call("e", TARGET, Outcome(0, 0.0, 0.0), 9.0, "ExpiredRequests")
    sums = rig.sums()
    assert sums["InvocationsProcessed"] == 2
    assert (sums["InvocationFailures"], sums["ExpiredRequests"]) == (1, 1)
    assert (sums["ResponseUploadFailures"], sums["Invocation5XXErrors"]) == (0, 0)
    assert sums["TimeInBacklog"] == 11_000
    assert sums["ModelLatency"] == 9_000_000, "an expired call never reaches the model"
    synchronous = {"Invocations", "InvocationsPerInstance", "OverheadLatency", "ConcurrentRequestsPerModel"}
    assert not synchronous & set(sums)


def test_a_backlog_without_an_instance() -> None:
    rig = Rig(asynchronous=True, size=0)
    rig.endpoint_metrics.record_state({"e": Backlog(3, 7.0)})
    sums = rig.sums()
    assert (sums["ApproximateBacklogSize"], sums["HasBacklogWithoutCapacity"]) == (3, 1)
    assert "ApproximateBacklogSizePerInstance" not in sums
    assert "CPUUtilization" not in sums, "no instance runs"


def test_instances_have_metrics_while_they_run() -> None:
    rig = Rig()
    rig.endpoint_metrics.record_state({})
    assert rig.sums()["ConcurrentRequestsPerModel"] == 3
    assert "CPUUtilization" in rig.sums()
