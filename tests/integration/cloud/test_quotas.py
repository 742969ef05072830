"""A rehearsal cloud with quotas: what SageMaker refuses beyond them, and what the doctor says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from inf2kit import load_preset
from inf2kit.doctor import Finding, Status, Surroundings, examine
from inf2kit.doctor.checks import CHECKS
from inf2kit.package import collect
from inf2kit.package.environment import container_environment
from inf2kit.rehearsal.cloud import lifecycle
from tests.helpers import packages
from tests.helpers.cloud import publish_package
from tests.helpers.cloudformation import StackMaker
from tests.helpers.sagemaker import ResourceMaker, create_role

PRESET = "tinyllama-1.1b-starter"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make clients of a cloud of its own, whose account may have one ml.inf2.xlarge."""
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    settings = lifecycle.up(port=0, minute_s=1.0, quotas={"ml.inf2.xlarge": 1})
    try:
        for name, value in lifecycle.environment(settings).items():
            monkeypatch.setenv(name, value)
        for name in lifecycle.unset():
            monkeypatch.delenv(name, raising=False)
        yield boto3.session.Session().client
    finally:
        lifecycle.down()


def look() -> Finding:
    """Return what the doctor says of the quota of the preset's instance."""
    report = examine(
        Surroundings(preset=load_preset(PRESET)), checks=[check for check in CHECKS if check.name == "quota"]
    )
    (finding,) = report.findings
    return finding


def refusal(operation: Any, **request: Any) -> str:
    """Return the message with which the quota refuses a request."""
    with pytest.raises(ClientError) as refused:
        operation(**request)
    assert refused.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    return str(refused.value)


def test_an_account_has_no_more_instances_than_its_quota(client: Any, tokenizer_only: Path) -> None:
    sagemaker, quotas = client("sagemaker"), client("service-quotas")
    client("s3").create_bucket(Bucket="models")
    create_role(client("iam"))
    preset = load_preset(PRESET)
    contents = collect(preset, tokenizer_only, rehearsal=True)
    uri = publish_package(packages.with_simulated_backend(contents))
    maker = ResourceMaker(sagemaker, uri, container_environment(preset))
    maker.create_model("m")
    for name, size in (("small", "xlarge"), ("other", "xlarge"), ("large", "8xlarge")):
        maker.create_config(name, "m", InstanceType=f"ml.inf2.{size}")

    assert look().reason == "ml.inf2.xlarge for endpoint usage: 0 of 1 used"
    message = refusal(sagemaker.create_endpoint, EndpointName="e", EndpointConfigName="large")
    assert "'ml.inf2.8xlarge for endpoint usage' is 0 Instances, with current utilization of 0" in message
    stacks = StackMaker(client("cloudformation"))
    properties = {"EndpointName": "e", "EndpointConfigName": "large"}
    resources = {"Endpoint": {"Type": "AWS::SageMaker::Endpoint", "Properties": properties}}
    assert stacks.create("inf2-e", resources) == "ROLLBACK_COMPLETE"
    assert any("is 0 Instances" in reason for _, _, reason in stacks.events("inf2-e"))

    maker.create_endpoint("e", "small")
    message = refusal(sagemaker.create_endpoint, EndpointName="f", EndpointConfigName="small")
    assert "current utilization of 1 Instances and a request delta of 1" in message, (
        "the first is being created"
    )
    maker.wait_until_settled("e")
    refusal(sagemaker.update_endpoint, EndpointName="e", EndpointConfigName="other")
    refusal(
        sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="e",
        DesiredWeightsAndCapacities=[{"VariantName": "main", "DesiredInstanceCount": 2}],
    )
    used_up = look()
    assert (used_up.status, used_up.reason) == (
        Status.PROBLEM,
        "ml.inf2.xlarge for endpoint usage: 1 of 1 used",
    )
    code = used_up.command.split("--quota-code ")[1].split()[0]
    quotas.request_service_quota_increase(ServiceCode="sagemaker", QuotaCode=code, DesiredValue=2.0)
    waiting = look()
    assert waiting.status is Status.ADVICE
    assert waiting.reason.endswith("1 of 1 used; an increase to 2 is requested")

    maker.delete_all()
    maker.create_model("m")
    maker.create_config("small", "m")
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="small")  # the deleted one is not counted
