"""Scaling policies on metrics; the endpoint is a double that takes any number of instances."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from inf2kit.rehearsal.cloud.autoscaling import AutoScaling
from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics
from tests.helpers.servers import wait_until

ACCOUNT, REGION = "123456789012", "us-east-1"
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/e/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


class SageMaker:
    """One endpoint in service, whose fleet has its desired size at once."""

    def __init__(self) -> None:
        self.fleet = SimpleNamespace(variant="main", desired=2, size=2)
        self.endpoints = {"e": SimpleNamespace(name="e", status="InService", fleets=[self.fleet])}

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        assert operation == "UpdateEndpointWeightsAndCapacities"
        (change,) = request["DesiredWeightsAndCapacities"]
        self.fleet.desired = self.fleet.size = change["DesiredInstanceCount"]
        return {}


class Rig:
    """A target of 1 to 8 instances, of which 2 run."""

    def __init__(self) -> None:
        self.metrics, self.sagemaker = Metrics(), SageMaker()
        # A minute of 6 ms: a cool-down ends before the next evaluation.
        self.scaling = AutoScaling(
            ACCOUNT,
            REGION,
            Clock(0.006),
            self.metrics,
            lambda: self.sagemaker,
            lambda _: None,  # type: ignore
        )
        self.client = boto3.client("application-autoscaling", region_name=REGION)
        self.client.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=8)

    def track(self, metric: str, target: float, **more: Any) -> None:
        """Track a metric without dimensions, such as one of a metric filter."""
        specification = {"MetricName": metric, "Namespace": "inf2kit", "Statistic": "Average"}
        self.client.put_scaling_policy(
            **TARGET,
            PolicyName=f"track-{metric}",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": target,
                "CustomizedMetricSpecification": specification,
                **more,
            },
        )

    def add(self, metric: str, value: float) -> None:
        self.metrics.add(metric, value, {}, "inf2kit")

    def instances(self) -> int:
        self.scaling.evaluate()
        return int(self.sagemaker.fleet.desired)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Rig()


def test_a_metric_of_the_logs_scales(rig: Rig) -> None:
    rig.track("Texts", 4.0)
    rig.add("Texts", 6.0)
    rig.add("Texts", 10.0)
    assert rig.instances() == 4, "the average of 8 against 4"


@pytest.mark.parametrize("names", [("A", "B"), ("B", "A")])
def test_the_largest_of_all_policies_wins(rig: Rig, names: tuple[str, str]) -> None:
    """In any order of creation."""
    for name in names:
        rig.track(name, 4.0)
    rig.add("A", 8.0)
    rig.add("B", 4.0)
    assert rig.instances() == 4


def test_a_policy_without_data_prevents_scaling_in(rig: Rig) -> None:
    rig.track("Texts", 4.0, ScaleInCooldown=0)
    rig.track("Never", 4.0, ScaleInCooldown=0)
    # The 15 minutes before scaling in last 90 ms.
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        rig.add("Texts", 1.0)
        assert rig.instances() == 2, "one of the policies has no data"

    def fewer() -> bool:
        for name in ("Texts", "Never"):
            rig.add(name, 1.0)
        return rig.instances() == 1

    wait_until(fewer, "both policies scale in")


def test_a_policy_that_may_not_scale_in_does_not_prevent_it(rig: Rig) -> None:
    rig.track("Texts", 4.0, ScaleInCooldown=0)
    rig.track("OnlyOut", 4.0, DisableScaleIn=True)

    def fewer() -> bool:
        rig.add("Texts", 1.0)
        rig.add("OnlyOut", 4.0)
        return rig.instances() == 1

    wait_until(fewer, "the other policy scales in")
    rig.add("OnlyOut", 100.0)
    wait_until(lambda: rig.instances() > 1, "and it scales out by itself")
