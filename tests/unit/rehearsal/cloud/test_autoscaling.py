"""Scaling policies on metrics; the endpoint is a double that takes any number of instances."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from inf2kit.rehearsal.cloud.autoscaling import AutoScaling
from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics

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
    """A target of 1 to 8 instances, of which 2 run, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_200_000.0
        self.metrics, self.sagemaker = Metrics(lambda: self.now), SageMaker()
        self.scaling = AutoScaling(
            ACCOUNT,
            REGION,
            Clock(60),
            self.metrics,
            lambda: self.sagemaker,  # type: ignore
            lambda _: None,
        )
        self.client = boto3.client("application-autoscaling", region_name=REGION)
        self.client.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=8)

    def track(self, metric: str, target: float, **more: Any) -> None:
        """Track a metric without dimensions, such as one of a metric filter."""
        specification = {"MetricName": metric, "Namespace": "inf2kit", "Statistic": "Average"}
        self._put(metric, target, CustomizedMetricSpecification=specification, **more)

    def track_calls(self, target: float, **more: Any) -> None:
        """Track the high-resolution metric of the calls in an instance."""
        metric = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        self._put("calls", target, PredefinedMetricSpecification={"PredefinedMetricType": metric}, **more)

    def _put(self, name: str, target: float, **configuration: Any) -> None:
        self.client.put_scaling_policy(
            **TARGET,
            PolicyName=f"track-{name}",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={"TargetValue": target, **configuration},
        )

    def after(self, seconds: int, calls: float | None = None, **values: float) -> int:
        """The number of instances after some seconds in which metrics had these values every ten seconds."""
        variant = {"EndpointName": "e", "VariantName": "main"}
        for _ in range(seconds // 10):
            self.now += 10
            for metric, value in values.items():
                self.metrics.add(metric, value, {}, "inf2kit")
            if calls is not None:
                self.metrics.add("ConcurrentRequestsPerModel", calls, variant)
            self.scaling.evaluate()
        return int(self.sagemaker.fleet.desired)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Rig()


def test_a_metric_of_the_logs_scales_out_after_three_minutes(rig: Rig) -> None:
    rig.track("Texts", 4.0)
    assert rig.after(120, Texts=8.0) == 2, "two minutes above the target are no alarm"
    assert rig.after(60, Texts=8.0) == 4, "8 against 4"


def test_a_minute_below_the_target_in_between_is_no_alarm(rig: Rig) -> None:
    """Even though the average of the three minutes is above it."""
    rig.track("Texts", 4.0)
    rig.after(60, Texts=10.0)
    rig.after(60, Texts=1.0)
    assert rig.after(60, Texts=10.0) == 2


def test_a_metric_of_high_resolution_scales_out_after_thirty_seconds(rig: Rig) -> None:
    rig.track_calls(4.0)
    assert rig.after(30, calls=12.0) == 2, "only two periods of ten seconds are over"
    assert rig.after(10, calls=12.0) == 3, "6 calls in each of 2 instances, against 4"


def test_a_period_without_data_is_passed_over(rig: Rig) -> None:
    rig.track_calls(4.0)
    rig.after(20, calls=12.0)
    assert rig.after(10) == 2
    assert rig.after(20, calls=12.0) == 3


def test_a_metric_of_high_resolution_scales_in_as_slowly_as_others(rig: Rig) -> None:
    rig.track_calls(4.0, ScaleInCooldown=0)
    assert rig.after(15 * 60 - 10, calls=1.0) == 2
    assert rig.after(2 * 60, calls=1.0) == 1


def test_a_minute_near_the_target_prevents_scaling_in(rig: Rig) -> None:
    rig.track("Texts", 4.0, ScaleInCooldown=0)
    rig.after(10 * 60, Texts=1.0)
    rig.after(60, Texts=3.7)
    assert rig.after(14 * 60, Texts=1.0) == 2, "3.7 is more than 0.9 of the target"
    assert rig.after(2 * 60, Texts=1.0) == 1


def test_nothing_is_added_until_the_cooldown_ends(rig: Rig) -> None:
    rig.track_calls(4.0, ScaleOutCooldown=600)
    assert rig.after(40, calls=12.0) == 3
    assert rig.after(590, calls=24.0) == 3
    assert rig.after(10, calls=24.0) == 6


@pytest.mark.parametrize("names", [("A", "B"), ("B", "A")])
def test_the_largest_of_all_policies_wins(rig: Rig, names: tuple[str, str]) -> None:
    """In any order of creation."""
    for name in names:
        rig.track(name, 4.0)
    assert rig.after(180, A=8.0, B=4.0) == 4


def test_a_policy_without_data_prevents_scaling_in(rig: Rig) -> None:
    rig.track("Texts", 4.0, ScaleInCooldown=0)
    rig.track("Never", 4.0, ScaleInCooldown=0)
    assert rig.after(40 * 60, Texts=1.0) == 2, "one of the policies has no data"
    assert rig.after(16 * 60, Texts=1.0, Never=1.0) == 1


def test_a_policy_that_may_not_scale_in_does_not_prevent_it(rig: Rig) -> None:
    rig.track("Texts", 4.0, ScaleInCooldown=0)
    rig.track("OnlyOut", 4.0, DisableScaleIn=True)
    assert rig.after(16 * 60, Texts=1.0, OnlyOut=4.0) == 1
    assert rig.after(6 * 60, OnlyOut=100.0) > 1, "it scales out by itself"
