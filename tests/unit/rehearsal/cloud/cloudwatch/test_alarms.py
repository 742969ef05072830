"""The states and actions of alarms, by the data of their metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.alarms import Alarms
from inf2kit.rehearsal.cloud.cloudwatch.metrics import NAMESPACE, Metrics

ACCOUNT, REGION = "123456789012", "us-east-1"
VARIANT = {"EndpointName": "e", "VariantName": "main"}


class Rig:
    """Alarms in moto, metrics, and the scaling policies that ran."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.policies: list[str] = []
        self.alarms = Alarms(ACCOUNT, REGION, self.metrics, Clock(60), self.policies.append)

    def put(self, **changed: Any) -> None:
        alarm = {
            "AlarmName": "a",
            "Namespace": NAMESPACE,
            "MetricName": "Invocation5XXErrors",
            "Dimensions": [{"Name": name, "Value": value} for name, value in VARIANT.items()],
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 5,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
            **changed,
        }
        boto3.client("cloudwatch", region_name=REGION).put_metric_alarm(**alarm)

    def state(self) -> tuple[str, str]:
        self.alarms.evaluate()
        (alarm,) = cloudwatch_backends[ACCOUNT][REGION].alarms.values()
        return alarm.state_value, alarm.state_reason


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Rig()


def test_a_sum_reaches_its_threshold(rig: Rig) -> None:
    rig.put()
    for _ in range(4):
        rig.metrics.add("Invocation5XXErrors", 1, VARIANT)
    assert rig.state()[0] == "OK"
    rig.metrics.add("Invocation5XXErrors", 1, VARIANT)
    state, reason = rig.state()
    assert state == "ALARM"
    assert "[5] against 5" in reason
    assert rig.alarms.in_alarm(["a", "b"]) == ["a"]


def test_another_variant_does_not_count(rig: Rig) -> None:
    rig.put()
    for _ in range(9):
        rig.metrics.add("Invocation5XXErrors", 1, {**VARIANT, "VariantName": "other"})
    assert rig.state()[0] == "OK"


@pytest.mark.parametrize(
    ("treatment", "state"),
    [("notBreaching", "OK"), ("breaching", "ALARM"), ("missing", "INSUFFICIENT_DATA"), ("ignore", "OK")],
)
def test_no_data(rig: Rig, treatment: str, state: str) -> None:
    rig.put(TreatMissingData=treatment)
    assert rig.state()[0] == state


def test_several_periods_must_breach(rig: Rig) -> None:
    rig.put(EvaluationPeriods=3)
    for _ in range(9):
        rig.metrics.add("Invocation5XXErrors", 1, VARIANT)
    assert rig.state()[0] == "OK", "one of three"
    rig.put(EvaluationPeriods=3, DatapointsToAlarm=1)
    assert rig.state()[0] == "ALARM"


def test_a_percentile(rig: Rig) -> None:
    rig.put(MetricName="ModelLatency", ExtendedStatistic="p50", Threshold=100)
    _without_statistic()
    for value in (10, 200, 300):
        rig.metrics.add("ModelLatency", value, VARIANT)
    assert rig.state()[0] == "ALARM"


def _without_statistic() -> None:
    (alarm,) = cloudwatch_backends[ACCOUNT][REGION].alarms.values()
    alarm.statistic = None


@pytest.mark.parametrize(("calls", "state"), [(19, "OK"), (20, "ALARM")])
def test_a_percentile_of_few_samples_is_ignored(rig: Rig, calls: int, state: str) -> None:
    """With ``ignore``, p50 needs 20 calls within all the periods; without it one call is enough."""
    rig.put(
        MetricName="ModelLatency",
        ExtendedStatistic="p50",
        Threshold=100,
        EvaluateLowSampleCountPercentile="ignore",
    )
    _without_statistic()
    for _ in range(calls):
        rig.metrics.add("ModelLatency", 200, VARIANT)
    assert rig.state()[0] == state


def stat(name: str, metric: str, statistic: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    dimensions = [{"Name": key, "Value": value} for key, value in VARIANT.items()]
    source = {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions}
    return {
        "Id": name,
        "MetricStat": {"Metric": source, "Period": 60, "Stat": statistic},
        "ReturnData": False,
    }


def put_math(rig: Rig, expression: str, **changed: Any) -> None:
    alarm = {
        "AlarmName": "a",
        "Metrics": [
            stat("errors", "InvocationModelErrors", "Sum"),
            stat("calls", "Invocations", "Sum"),
            stat("running", "CPUUtilization", "SampleCount", "/aws/sagemaker/Endpoints"),
            {"Id": "result", "Expression": expression, "ReturnData": True},
        ],
        "EvaluationPeriods": 1,
        "Threshold": 0.5,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        **changed,
    }
    boto3.client("cloudwatch", region_name=REGION).put_metric_alarm(**alarm)


@pytest.mark.parametrize(
    ("expression", "calls", "errors", "state"),
    [
        ("errors / calls", 4, 2, "ALARM"),
        ("errors / calls", 4, 1, "OK"),
        ("errors / calls", 0, 0, "OK"),
        ("IF(calls >= 5, errors / calls)", 4, 4, "OK"),
        ("IF(calls >= 5, errors / calls)", 5, 4, "ALARM"),
        ("IF(calls >= 5, errors / calls, errors - 1)", 4, 2, "ALARM"),
        ("IF(calls < 5 AND errors > 1, 1, 0)", 4, 2, "ALARM"),
        ("FILL(calls, 0) * 2 - FILL(errors, 1)", 1, 2, "OK"),
        ("FILL(running, 1)", 1, 1, "ALARM"),
        ("-(calls - errors) + 2", 2, 1, "ALARM"),
    ],
)
def test_metric_math(rig: Rig, expression: str, calls: int, errors: int, state: str) -> None:
    put_math(rig, expression)
    for name, count in (("Invocations", calls), ("InvocationModelErrors", errors)):
        for _ in range(count):
            rig.metrics.add(name, 1, VARIANT)
    assert rig.state()[0] == state


def test_the_idle_alarm_needs_a_running_instance(rig: Rig) -> None:
    """The expression is that of the stacks' idle alarm."""
    put_math(
        rig,
        "IF(running > 0, FILL(calls, 0))",
        Threshold=0,
        ComparisonOperator="LessThanOrEqualToThreshold",
    )
    assert rig.state()[0] == "OK", "nothing runs"
    rig.metrics.add("CPUUtilization", 3.0, VARIANT, "/aws/sagemaker/Endpoints")
    assert rig.state()[0] == "ALARM"
    rig.metrics.add("Invocations", 1, VARIANT)
    assert rig.state()[0] == "OK"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ANOMALY_DETECTION_BAND(calls)", "ANOMALY_DETECTION_BAND is not computed"),
        ("calls +", "cannot be read"),
        ("nothing + 1", "no metric 'nothing'"),
        ("result + 1", "one that needs itself"),
        ("[calls, errors]", "is not computed"),
    ],
)
def test_math_that_is_not_simulated_has_insufficient_data(rig: Rig, expression: str, message: str) -> None:
    put_math(rig, expression)
    state, reason = rig.state()
    assert state == "INSUFFICIENT_DATA"
    assert message in reason


def test_an_alarm_with_disabled_actions_runs_no_policy(rig: Rig) -> None:
    rig.put(AlarmActions=["arn:aws:autoscaling:us-east-1:1:scalingPolicy:x"], ActionsEnabled=False)
    for _ in range(5):
        rig.metrics.add("Invocation5XXErrors", 1, VARIANT)
    assert [rig.state()[0], rig.state()[0]] == ["ALARM", "ALARM"]
    assert rig.policies == []


def test_a_scaling_policy_runs_while_its_alarm_is_in_alarm(rig: Rig) -> None:
    rig.put(AlarmActions=["arn:aws:autoscaling:us-east-1:1:scalingPolicy:x"])
    for _ in range(5):
        rig.metrics.add("Invocation5XXErrors", 1, VARIANT)
    rig.state()
    rig.state()
    assert rig.policies == ["arn:aws:autoscaling:us-east-1:1:scalingPolicy:x"] * 2, (
        "the cool-down is the policy's"
    )
