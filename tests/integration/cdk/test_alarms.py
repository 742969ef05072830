"""The alarms: what they look at, and what a minute of calls makes of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

import inf2kit
from inf2kit.cdk.log_metrics import EVENTS
from inf2kit.serving.gateway import monitoring
from inf2kit.serving.log import log
from inf2kit.serving.supervision import engine_process, supervisor
from tests.helpers.cdk import find_only

pytestmark = pytest.mark.usefixtures("home")

#: A minute: the sum of each metric, and the number of its samples where that is asked for.
Minute = Mapping[str, float]
QUIET: Minute = {}


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    """The properties of the alarms, by the last part of their names."""
    resources = template.find_resources("AWS::CloudWatch::Alarm").values()
    return {
        resource["Properties"]["AlarmName"].rpartition("-")[2]: resource["Properties"]
        for resource in resources
    }


def value(alarm: Mapping[str, Any], minute: Minute) -> float | None:
    """What an alarm's expression makes of a minute; None where CloudWatch has no value."""
    names: dict[str, Any] = {
        "IF": lambda condition, then, otherwise: then if condition else otherwise,
        "FILL": lambda number, instead: instead if number is None else number,
    }
    expression = ""
    for query in alarm["Metrics"]:
        if "Expression" in query:
            expression = query["Expression"]
            continue
        metric = query["MetricStat"]["Metric"]["MetricName"]
        key = f"{metric} samples" if query["MetricStat"]["Stat"] == "SampleCount" else metric
        names[query["Id"]] = minute.get(key)
    try:
        return float(eval(expression, {"__builtins__": {}}, names))  # noqa: S307 - of our own template
    except TypeError:
        # A series without a value at this minute gives none.
        return None


def rings(alarm: Mapping[str, Any], minutes: Sequence[Minute]) -> bool:
    """Whether an alarm that must reach its threshold is on after these minutes."""
    watched = minutes[-alarm["EvaluationPeriods"] :]
    values = [value(alarm, minute) for minute in watched]
    breaching = sum(number is not None and number >= alarm["Threshold"] for number in values)
    return breaching >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])


def answered(calls: int, failed: int = 0, refused: int = 0) -> Minute:
    """A minute of a real-time endpoint, as SageMaker counts it."""
    return {
        "InvocationModelErrors": failed + refused,
        "InvocationModelErrors samples": calls,
        "Invocation4XXErrors": refused,
    }


def processed(calls: int, failed: int = 0) -> Minute:
    """A minute of an asynchronous endpoint, which leaves out what is zero."""
    return {"InvocationFailures": failed, "InvocationsProcessed": calls} if failed else {}


@pytest.mark.parametrize(
    ("minutes", "ringing"),
    [
        ([answered(4, failed=4)] * 3, {"ErrorRate"}),
        ([answered(1, failed=1), QUIET, answered(1, failed=1), QUIET, answered(1, failed=1)], {"ErrorRate"}),
        ([answered(40, failed=40)], {"Errors"}),
        ([answered(1000, failed=5)] * 5, set()),
        ([answered(1000, failed=60)], {"Errors"}),
        ([answered(20, refused=19)] * 5, set()),
        ([answered(20, refused=15, failed=5)], {"Errors"}),
        ([answered(4, failed=1), answered(4), answered(4), answered(4), answered(4)], set()),
        ([QUIET] * 5, set()),
    ],
    ids=[
        *("four calls a minute and all fail", "a call every other minute and all fail", "many fail at once"),
        *("one in two hundred fails", "six in a hundred fail", "a full queue", "errors beside a full queue"),
        *("one error alone", "nobody calls"),
    ],
)
def test_errors_ring_by_their_share_of_the_calls(
    template: Callable[..., Template], minutes: list[Minute], ringing: set[str]
) -> None:
    by_name = alarms(template())
    assert {name for name in ("Errors", "ErrorRate") if rings(by_name[name], minutes)} == ringing


@pytest.mark.parametrize(
    ("minutes", "ringing"),
    [
        ([processed(9, failed=9)], {"Errors"}),
        ([processed(0, failed=9)], {"Errors"}),
        ([processed(1, failed=1)] * 3, {"ErrorRate"}),
        ([processed(9)] * 5, set()),
    ],
    ids=["all fail", "failed calls do not count as processed", "few calls and all fail", "all is well"],
)
def test_errors_of_an_asynchronous_endpoint_are_its_failed_calls(
    template: Callable[..., Template], minutes: list[Minute], ringing: set[str]
) -> None:
    by_name = alarms(template(asynchronous="true"))
    assert {name for name in ("Errors", "ErrorRate") if rings(by_name[name], minutes)} == ringing


def test_an_error_without_a_status_is_an_error(template: Callable[..., Template]) -> None:
    """Time-outs and closed sockets are in InvocationModelErrors, not promised in Invocation5XXErrors."""
    for name in ("Errors", "ErrorRate"):
        queries = alarms(template())[name]["Metrics"]
        metrics = {query["MetricStat"]["Metric"]["MetricName"] for query in queries if "MetricStat" in query}
        assert metrics == {"InvocationModelErrors", "Invocation4XXErrors"}


def test_each_bad_line_of_the_supervisor_has_a_metric_and_an_alarm(
    template: Callable[..., Template],
) -> None:
    rendered = template()
    resources = rendered.to_json()["Resources"]
    filters = {
        transformation["MetricName"]: resource["Properties"]
        for resource in rendered.find_resources("AWS::Logs::MetricFilter").values()
        for transformation in resource["Properties"]["MetricTransformations"]
    }
    by_name = alarms(rendered)
    for event, line in EVENTS.items():
        metric = f"{event}-llama2-7b-throughput"
        assert filters[metric]["FilterPattern"] == f'"{line}"'
        group = resources[filters[metric]["LogGroupName"]["Ref"]]
        assert group["Properties"]["LogGroupName"] == "/aws/sagemaker/Endpoints/llama2-7b-throughput"
        alarm = by_name[event]
        assert (alarm["Namespace"], alarm["MetricName"]) == ("inf2kit", metric)
        assert "Dimensions" not in alarm, "the filter gives the metric none"
        assert (alarm["Statistic"], alarm["Threshold"], alarm["EvaluationPeriods"]) == ("Sum", 1, 1)


def test_the_lines_are_those_that_the_container_prints(capfd: pytest.CaptureFixture[str]) -> None:
    """A line in other words would be counted by no filter, and nobody would hear of it."""
    sources = inspect.getsource(supervisor) + inspect.getsource(engine_process)
    log("supervisor", "")
    prefix = capfd.readouterr().out.rstrip("\n")
    for line in EVENTS.values():
        message = line.removeprefix(prefix)
        assert message != line
        assert re.search(rf'"{message}\b', sources), f"the supervisor does not log {message!r}"
    source = inspect.getsource(monitoring)
    assert re.search(r'"inf2kit": "load",\s+"texts_inside": ', source)


def test_saturation_counts_texts_in_one_instance(template: Callable[..., Template]) -> None:
    rendered = template()
    alarm = alarms(rendered)["Saturation"]
    assert (alarm["MetricName"], alarm["Statistic"]) == ("TextsInside-llama2-7b-throughput", "Maximum")
    assert alarm["Threshold"] == 4 + 16, "all rows, and half of the queue"
    (load,) = [
        resource["Properties"]
        for resource in rendered.find_resources("AWS::Logs::MetricFilter").values()
        if resource["Properties"]["FilterPattern"] == '{ $.inf2kit = "load" }'
    ]
    assert load["MetricTransformations"] == [
        {"MetricName": alarm["MetricName"], "MetricNamespace": "inf2kit", "MetricValue": "$.texts_inside"}
    ]


def test_a_missing_engine_has_an_alarm_where_there_are_several(template: Callable[..., Template]) -> None:
    assert "EngineMissing" not in alarms(template())
    rendered = template("llama2-7b-fleet")
    by_name = alarms(rendered)
    alarm = by_name["EngineMissing"]
    assert (alarm["MetricName"], alarm["Statistic"]) == ("EnginesMissing-llama2-7b-fleet", "Maximum")
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 15), "longer than a load takes"
    assert by_name["Saturation"]["Threshold"] == 3 * (32 + 32), "of all engines"
    values = {
        transformation["MetricName"]: transformation["MetricValue"]
        for resource in rendered.find_resources("AWS::Logs::MetricFilter").values()
        for transformation in resource["Properties"]["MetricTransformations"]
    }
    assert values["EnginesMissing-llama2-7b-fleet"] == "$.engines_missing"
    assert re.search(r'load\["engines_missing"\] = ', inspect.getsource(monitoring))


def test_saturation_of_an_asynchronous_endpoint_leaves_a_long_call_alone(
    template: Callable[..., Template],
) -> None:
    """The oldest request may be one that is being answered."""
    alarm = alarms(template(asynchronous="true", async_deadline_s="1800"))["Saturation"]
    assert alarm["MetricName"] == "ApproximateAgeOfOldestRequest"
    assert alarm["Threshold"] == 1800 + 900


@pytest.mark.parametrize("preset", ["llama2-7b-budget", "llama2-7b-throughput"])
def test_latency_is_seen_with_one_call_a_minute(preset: str, template: Callable[..., Template]) -> None:
    """An endpoint with one row ends one long text a minute; twenty are never there."""
    alarm = alarms(template(preset))["Latency"]
    assert alarm["EvaluateLowSampleCountPercentile"] == "evaluate"
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (3, 5)
    assert alarm["ExtendedStatistic"] == "p50"
    assert 50e6 < alarm["Threshold"] < 55e6, "near the deadline of 55 s; ModelLatency is in microseconds"


def test_rollback_alarms(template: Callable[..., Template]) -> None:
    for context, names in (
        ({}, ["Errors", "ErrorRate", "Latency"]),
        # A call may take a quarter of an hour there: no update is watched for so long.
        ({"asynchronous": "true"}, ["Errors", "ErrorRate"]),
    ):
        endpoint = find_only(template(**context), "SageMaker::Endpoint")
        watched = endpoint["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        assert [alarm["AlarmName"].rpartition("-")[2] for alarm in watched] == names


def test_all_alarms_write_to_the_topic(template: Callable[..., Template]) -> None:
    rendered = template(alarm_email="ops@example.com")
    (topic,) = rendered.find_resources("AWS::SNS::Topic")
    by_name = alarms(rendered)
    assert set(by_name) == {"Errors", "ErrorRate", "Latency", "Saturation", "IdleMoney", *EVENTS}
    page = (Path(inf2kit.__file__).parents[1] / "docs/deploying.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in by_name), "each is in the documents"
    assert all(alarm["AlarmActions"] == [{"Ref": topic}] for alarm in by_name.values())
    rendered.has_resource_properties(
        "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "ops@example.com"}
    )


def test_alarms_may_write_to_their_topic(template: Callable[..., Template]) -> None:
    """A policy of the topic's own takes the place of the default one, which allowed it."""
    statements = find_only(template(), "SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    allowed = {statement["Sid"]: statement for statement in statements if statement["Effect"] == "Allow"}
    assert allowed["Alarms"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Alarms"]["Action"] == "sns:Publish"
    condition = allowed["Alarms"]["Condition"]
    assert condition["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    source = condition["ArnLike"]["aws:SourceArn"]["Fn::Join"][1]
    assert source[-1] == ":alarm:llama2-7b-throughput-*"


@pytest.mark.parametrize(
    ("hour", "idle"),
    [
        ({"CPUUtilization samples": 60}, True),
        ({"CPUUtilization samples": 60, "Invocations": 3}, False),
        ({"CPUUtilization samples": 60, "TextsInside-llama2-7b-throughput": 1}, False),
        ({}, False),
    ],
    ids=["an instance and no call", "calls", "streams that are no invocations", "no instance"],
)
def test_the_money_alarm_rings_where_an_instance_runs_and_nobody_calls(
    template: Callable[..., Template], hour: Minute, idle: bool
) -> None:
    alarm = alarms(template())["IdleMoney"]
    assert "costs about $15.58 an hour" in alarm["AlarmDescription"]
    assert "cdk destroy inf2-llama2-7b-throughput" in alarm["AlarmDescription"]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanOrEqualToThreshold", 0)
    assert alarm["TreatMissingData"] == "notBreaching"
    number = value(alarm, hour)
    assert (number is not None and number <= 0) is idle


def test_the_money_alarm_looks_at_a_metric_that_is_there(template: Callable[..., Template]) -> None:
    for context, metric in (({}, "Invocations"), ({"asynchronous": "true"}, "InvocationsProcessed")):
        queries = alarms(template(**context))["IdleMoney"]["Metrics"]
        assert queries[0]["MetricStat"]["Metric"]["MetricName"] == metric
