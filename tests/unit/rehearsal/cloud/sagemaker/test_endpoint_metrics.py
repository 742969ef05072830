"""Which metrics a call makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from inf2kit.rehearsal.cloud.sagemaker.endpoint_metrics import Observed
from inf2kit.rehearsal.runtime.server import Outcome, Target

OF = {"EndpointName": "e", "VariantName": "main"}
TARGET = Target("http://nowhere", "InService", "main")


class Rig:
    """An endpoint of two instances; not a real one, as only its numbers are read."""

    def __init__(self, *, asynchronous: bool = False, size: int = 2) -> None:
        self.metrics = Metrics()
        config = {"AsyncInferenceConfig": {}} if asynchronous else {}
        fleet = SimpleNamespace(variant="main", size=size, in_flight=3)
        endpoints: Any = {"e": SimpleNamespace(name="e", config=config, fleets=[fleet])}
        self.observed = Observed(self.metrics, endpoints)

    def sums(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for namespace, name, _, second in self.metrics.all():
            assert namespace in ("AWS/SageMaker", "/aws/sagemaker/Endpoints")
            found[name] = found.get(name, 0.0) + second.total
        return found


@pytest.mark.parametrize(
    ("status", "model", "client", "server"),
    [(200, 0, 0, 0), (422, 1, 1, 0), (429, 1, 1, 0), (500, 1, 0, 1), (0, 1, 0, 0)],
)
def test_no_answer_is_an_error_of_the_model_and_no_5xx(
    status: int, model: int, client: int, server: int
) -> None:
    rig = Rig()
    rig.observed.called("e", TARGET, Outcome(status, 0.5, 0.001))
    sums = rig.sums()
    names = ("InvocationModelErrors", "Invocation4XXErrors", "Invocation5XXErrors")
    assert [sums[name] for name in names] == [model, client, server]
    assert sums["Invocations"] == 1
    assert sums["InvocationsPerInstance"] == 0.5
    assert sums["ModelLatency"] == 500_000


def test_an_asynchronous_call_has_metrics_of_its_own() -> None:
    rig = Rig(asynchronous=True)
    rig.observed.processed("e", TARGET, Outcome(0, 9.0, 0.0), 2.0, "InvocationFailures")
    rig.observed.processed("e", TARGET, Outcome(0, 0.0, 0.0), 9.0, "ExpiredRequests")
    sums = rig.sums()
    assert sums["InvocationsProcessed"] == 2
    assert (sums["InvocationFailures"], sums["ExpiredRequests"]) == (1, 1)
    assert (sums["ResponseUploadFailures"], sums["Invocation5XXErrors"]) == (0, 0)
    assert sums["TimeInBacklog"] == 11_000
    assert sums["ModelLatency"] == 9_000_000, "what expired was never called"
    never = {"Invocations", "InvocationsPerInstance", "OverheadLatency", "ConcurrentRequestsPerModel"}
    assert not never & set(sums)


def test_a_backlog_without_an_instance() -> None:
    rig = Rig(asynchronous=True, size=0)
    rig.observed.count({"e": (3, 7.0)})
    sums = rig.sums()
    assert (sums["ApproximateBacklogSize"], sums["HasBacklogWithoutCapacity"]) == (3, 1)
    assert "ApproximateBacklogSizePerInstance" not in sums
    assert "CPUUtilization" not in sums, "no instance runs"


def test_instances_have_metrics_while_they_run() -> None:
    rig = Rig()
    rig.observed.count({})
    assert rig.sums()["ConcurrentRequestsPerModel"] == 3
    assert "CPUUtilization" in rig.sums()
