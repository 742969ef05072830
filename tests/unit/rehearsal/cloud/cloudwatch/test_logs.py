"""Logs of containers in CloudWatch, and the metric filters of their log groups."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from inf2kit.rehearsal.cloud.cloudwatch.logs import ContainerLogs
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics, statistic

ACCOUNT, REGION = "123456789012", "us-east-1"
LOAD = json.dumps({"inf2kit": "load", "texts": 3.5, "engine": {"rows": 8}})


def put(client: Any, name: str, pattern: str, metric: str, value: str, **more: Any) -> None:
    transformation = {"metricName": metric, "metricNamespace": "inf2kit", "metricValue": value, **more}
    client.put_metric_filter(
        logGroupName="/aws/sagemaker/Endpoints/e",
        filterName=name,
        filterPattern=pattern,
        metricTransformations=[transformation],
    )


def test_lines_of_containers_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    metrics = Metrics()
    with mock_aws():
        client = boto3.client("logs", region_name=REGION)
        client.create_log_group(logGroupName="/aws/sagemaker/Endpoints/e")
        put(client, "restarts", '"the engine ended"', "Restarts", "1", defaultValue=0.0)
        put(client, "load", '{ $.inf2kit = "load" }', "Texts", "$.texts")
        logs = ContainerLogs(ACCOUNT, REGION, tmp_path, metrics)
        (tmp_path / "e").mkdir()
        log = tmp_path / "e" / "main-i-0001.log"

        def value(name: str, statistic_: str) -> float | None:
            return statistic(metrics.between(name, {}, 0, float("inf"), "inf2kit"), statistic_)

        log.write_text("started\n", encoding="utf-8")
        logs.collect(["e"])
        assert (value("Restarts", "Sum"), value("Restarts", "SampleCount")) == (0, 1), "the default value"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"inf2kit supervisor: the engine ended with code -9\n{LOAD}\n")
            file.write(LOAD.replace("3.5", "4.5") + "\n")
        logs.collect(["e"])
        logs.collect(["e"])
        assert value("Restarts", "Sum") == 1, "each line once"
        assert (value("Texts", "Average"), value("Texts", "SampleCount")) == (4.0, 2)


def test_a_deleted_log_group_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint is collected once more at its end; a collection that began earlier writes nothing later."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("logs", region_name=REGION)
        logs = ContainerLogs(ACCOUNT, REGION, tmp_path, Metrics())
        (tmp_path / "e").mkdir()
        (tmp_path / "e" / "main-i-0001.log").write_text("the last line\n", encoding="utf-8")
        with ThreadPoolExecutor() as pool:
            for _ in range(20):
                pool.submit(logs.collect, ["e"])
            logs.collect(["e"])
            events = client.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/e")["events"]
            assert [event["message"] for event in events] == ["the last line"]
            client.delete_log_group(logGroupName="/aws/sagemaker/Endpoints/e")
        assert client.describe_log_groups()["logGroups"] == []
