"""Models, endpoint configurations and endpoints."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    CreatedButFailedError,
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
    call,
)
from inf2kit.rehearsal.cloud.errors import AwsError

_POLL_S = 0.2


class Record(ResourceHandler):
    """A model or an endpoint configuration: only its tags can be updated.

    Args:
        noun: ``Model`` or ``EndpointConfig``.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.name_property = f"{noun}Name"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        sagemaker = services.client("sagemaker")
        response = call(sagemaker, f"Create{self._noun}", {**properties, self.name_property: name})
        arn = response[f"{self._noun}Arn"]
        return PhysicalResource(arn, {self.name_property: name, f"{self._noun}Arn": arn})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        _update_tags(services, resource.id, old, new)
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        name = resource.attributes[self.name_property]
        call(services.client("sagemaker"), f"Delete{self._noun}", {self.name_property: name})


class Endpoint(ResourceHandler):
    """An endpoint; its creation and its updates last until it has settled."""

    name_property = "EndpointName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        sagemaker = services.client("sagemaker")
        arn = call(sagemaker, "CreateEndpoint", {**properties, "EndpointName": name})["EndpointArn"]
        resource = PhysicalResource(arn, {"EndpointName": name, "EndpointArn": arn})
        endpoint = _wait_until_settled(sagemaker, name)
        if endpoint["EndpointStatus"] != "InService":
            raise CreatedButFailedError(resource, str(endpoint.get("FailureReason", "")))
        return resource

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        sagemaker, name = services.client("sagemaker"), resource.attributes["EndpointName"]
        _update_tags(services, resource.id, old, new)
        if _without_tags(old) == _without_tags(new):
            return resource
        endpoint = _wait_until_settled(sagemaker, name)
        config_name = new["EndpointConfigName"]
        is_rolled_back = old["EndpointConfigName"] != config_name == endpoint["EndpointConfigName"]
        if is_rolled_back and services.undone != "refused":
            # SageMaker has rolled the update back before, and now the stack's rollback asks for the same.
            return resource
        call(sagemaker, "UpdateEndpoint", {**new, "EndpointName": name})
        endpoint = _wait_until_settled(sagemaker, name)
        if endpoint["EndpointConfigName"] != config_name and services.undone != "unnoticed":
            raise AwsError("NotStabilized", str(endpoint.get("FailureReason", "the update was rolled back")))
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        sagemaker, name = services.client("sagemaker"), resource.attributes["EndpointName"]
        _wait_until_settled(sagemaker, name)
        sagemaker.delete_endpoint(EndpointName=name)
        while _exists(sagemaker, name):
            time.sleep(_POLL_S)


def _without_tags(properties: Properties) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name != "Tags"}


def _exists(sagemaker: Any, name: str) -> bool:
    try:
        sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in error.response["Error"]["Message"]:
            return False
        raise
    return True


def _wait_until_settled(sagemaker: Any, name: str) -> Any:
    """Wait until an endpoint has stopped changing, and return its description."""
    while True:
        endpoint = sagemaker.describe_endpoint(EndpointName=name)
        if endpoint["EndpointStatus"] not in ("Creating", "Updating", "RollingBack", "SystemUpdating"):
            return endpoint
        time.sleep(_POLL_S)


def _update_tags(services: Services, arn: str, old: Properties, new: Properties) -> None:
    before = {tag["Key"] for tag in old.get("Tags", [])}
    after = {tag["Key"] for tag in new.get("Tags", [])}
    sagemaker = services.client("sagemaker")
    if before - after:
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=sorted(before - after))
    if new.get("Tags"):
        sagemaker.add_tags(ResourceArn=arn, Tags=new["Tags"])
