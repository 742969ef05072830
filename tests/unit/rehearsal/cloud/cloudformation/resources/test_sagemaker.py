"""Updates of an endpoint that SageMaker rolls back, for each value of ``--undone``; SageMaker is a double."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation.resources import PhysicalResource, Services
from inf2kit.rehearsal.cloud.cloudformation.resources.sagemaker import Endpoint
from inf2kit.rehearsal.cloud.errors import AwsError

ENDPOINT = PhysicalResource("arn", {"EndpointName": "e"})
OLD, NEW = ({"EndpointName": "e", "EndpointConfigName": name} for name in ("old", "new"))


class SageMaker:
    """Rolls every update back, and refuses the configuration in use."""

    def __init__(self) -> None:
        # boto3's model of the operations.
        self.meta = boto3.client("sagemaker", region_name="us-east-1").meta

    def describe_endpoint(self, **_: str) -> dict[str, Any]:
        return {"EndpointStatus": "InService", "EndpointConfigName": "old", "FailureReason": "an alarm"}

    def update_endpoint(self, *, EndpointConfigName: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        if EndpointConfigName == "old":
            error = {"Code": "ValidationException", "Message": "currently in use endpoint configuration"}
            raise ClientError({"Error": error}, "UpdateEndpoint")
        return {"EndpointArn": "arn"}


def services(undone: str) -> Services:
    sagemaker = SageMaker()
    return Services("123456789012", "us-east-1", lambda _: sagemaker, undone)


def test_accepted_fails_the_update_and_finds_the_endpoint_as_it_was() -> None:
    with pytest.raises(AwsError, match="an alarm"):
        Endpoint().update(services("accepted"), ENDPOINT, OLD, NEW)
    assert Endpoint().update(services("accepted"), ENDPOINT, NEW, OLD) is ENDPOINT


def test_refused_fails_the_update_and_its_rollback() -> None:
    with pytest.raises(AwsError, match="an alarm"):
        Endpoint().update(services("refused"), ENDPOINT, OLD, NEW)
    with pytest.raises(ClientError, match="currently in use endpoint configuration"):
        Endpoint().update(services("refused"), ENDPOINT, NEW, OLD)


def test_unnoticed_reports_a_success() -> None:
    assert Endpoint().update(services("unnoticed"), ENDPOINT, OLD, NEW) is ENDPOINT
