"""What metric filters count in the logs of containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from inf2kit.rehearsal.cloud.cloudwatch.logs import Logs
from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import matcher, value_of
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics, statistic
from inf2kit.rehearsal.cloud.errors import AwsError

ACCOUNT, REGION = "123456789012", "us-east-1"
LOAD = json.dumps({"inf2kit": "load", "texts": 3.5, "engine": {"rows": 8}})


@pytest.mark.parametrize(
    ("pattern", "line", "matches"),
    [
        ("", "anything", True),
        ('"the engine ended"', "inf2kit supervisor: the engine ended with code -9", True),
        ('"the engine ended"', "the engine has ended", False),
        ('"the engine ended" -planned', "the engine ended, planned", False),
        ("ERROR engine", "engine: ERROR", True),
        ("ERROR engine", "ERROR", False),
        ("?ERROR ?WARNING", "WARNING", True),
        (r'"a \"word\""', 'a "word"', True),
        ('{ $.inf2kit = "load" }', LOAD, True),
        ('{ $.inf2kit = "lo*" }', LOAD, True),
        ('{ $.inf2kit = "other" }', LOAD, False),
        ('{ $.inf2kit != "other" }', LOAD, True),
        ('{ $.inf2kit = "load" && $.texts > 3 }', LOAD, True),
        ('{ $.inf2kit = "load" && $.texts > 4 }', LOAD, False),
        ("{ $.texts > 4 || $.engine.rows >= 8 }", LOAD, True),
        ("{ $.texts = 3.5 }", LOAD, True),
        ('{ $.nothing != "load" }', LOAD, False),
        ('{ $.inf2kit = "load" }', "no JSON", False),
        ('{ $.inf2kit = "load" }', "[1]", False),
    ],
)
def test_patterns(pattern: str, line: str, matches: bool) -> None:
    assert matcher(pattern)(line) is matches


@pytest.mark.parametrize(
    "pattern", ["[ip, user]", "{ $.a IS NULL }", "{ ($.a = 1) }", "%regex%", '{ $.a > "b" }']
)
def test_a_pattern_that_is_not_read_is_refused(pattern: str) -> None:
    with pytest.raises(AwsError, match="is not read in this rehearsal"):
        matcher(pattern)


def test_values() -> None:
    assert value_of("line", "2") == 2
    assert value_of(LOAD, "$.texts") == 3.5
    assert value_of(LOAD, "$.engine.rows") == 8
    assert value_of(LOAD, "$.inf2kit") is None
    assert value_of(LOAD, "$.nothing") is None


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
        logs = Logs(ACCOUNT, REGION, tmp_path, metrics)
        (tmp_path / "e").mkdir()
        log = tmp_path / "e" / "main-i-0001.log"

        def seen(name: str, of: str) -> float | None:
            return statistic(metrics.between(name, {}, 0, float("inf"), "inf2kit"), of)

        log.write_text("started\n", encoding="utf-8")
        logs.look(["e"])
        assert (seen("Restarts", "Sum"), seen("Restarts", "SampleCount")) == (0, 1), "the default value"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"inf2kit supervisor: the engine ended with code -9\n{LOAD}\n")
            file.write(LOAD.replace("3.5", "4.5") + "\n")
        logs.look(["e"])
        logs.look(["e"])
        assert seen("Restarts", "Sum") == 1, "each line once"
        assert (seen("Texts", "Average"), seen("Texts", "SampleCount")) == (4.0, 2)
