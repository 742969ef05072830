"""What a stack makes of an update that SageMaker has undone by itself; SageMaker is a double here."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation.resources import Here, Made
from inf2kit.rehearsal.cloud.cloudformation.resources.sagemaker import Endpoint
from inf2kit.rehearsal.cloud.errors import AwsError

MADE = Made("arn", {"EndpointName": "e"})
OLD, NEW = ({"EndpointName": "e", "EndpointConfigName": name} for name in ("old", "new"))


class SageMaker:
    """Undoes every update, and refuses the configuration in use."""

    def __init__(self) -> None:
        # What boto3 knows of the operations.
        self.meta = boto3.client("sagemaker", region_name="us-east-1").meta

    def describe_endpoint(self, **_: str) -> dict[str, Any]:
        return {"EndpointStatus": "InService", "EndpointConfigName": "old", "FailureReason": "an alarm"}

    def update_endpoint(self, *, EndpointConfigName: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        if EndpointConfigName == "old":
            error = {"Code": "ValidationException", "Message": "currently in use endpoint configuration"}
            raise ClientError({"Error": error}, "UpdateEndpoint")
        return {"EndpointArn": "arn"}


def here(undone: str) -> Here:
    sagemaker = SageMaker()
    return Here("123456789012", "us-east-1", lambda _: sagemaker, undone)


def test_it_is_noticed_and_the_rollback_finds_the_endpoint_as_it_was() -> None:
    with pytest.raises(AwsError, match="an alarm"):
        Endpoint().update(here("accepted"), MADE, OLD, NEW)
    assert Endpoint().update(here("accepted"), MADE, NEW, OLD) is MADE


def test_its_rollback_is_refused() -> None:
    with pytest.raises(AwsError, match="an alarm"):
        Endpoint().update(here("refused"), MADE, OLD, NEW)
    with pytest.raises(ClientError, match="currently in use endpoint configuration"):
        Endpoint().update(here("refused"), MADE, NEW, OLD)


def test_it_is_taken_for_a_success() -> None:
    assert Endpoint().update(here("unnoticed"), MADE, OLD, NEW) is MADE
