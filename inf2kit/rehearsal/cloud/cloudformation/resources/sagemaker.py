"""Models, endpoint configurations and endpoints."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.cloudformation.resources.base import (
    CreatedButFailedError,
    Here,
    Made,
    Properties,
    Type,
    call,
)
from inf2kit.rehearsal.cloud.errors import AwsError

_POLL_S = 0.2


class SageMakerRecord(Type):
    """A Model or an EndpointConfig: a record, which is never changed, only replaced."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.name_property = f"{noun}Name"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sagemaker = here.client("sagemaker")
        request = {**properties, self.name_property: name}
        answer = call(sagemaker, f"Create{self._noun}", request)
        arn = answer[f"{self._noun}Arn"]
        return Made(arn, {self.name_property: name, f"{self._noun}Arn": arn})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        _tag(here, made.physical_id, old, new)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        name = made.attributes[self.name_property]
        call(here.client("sagemaker"), f"Delete{self._noun}", {self.name_property: name})


class Endpoint(Type):
    name_property = "EndpointName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sagemaker = here.client("sagemaker")
        answer = call(sagemaker, "CreateEndpoint", {**properties, "EndpointName": name})
        made = Made(answer["EndpointArn"], {"EndpointName": name, "EndpointArn": answer["EndpointArn"]})
        status = _settled(sagemaker, name)
        if status["EndpointStatus"] != "InService":
            raise CreatedButFailedError(made, str(status.get("FailureReason", "")))
        return made

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        sagemaker, name = here.client("sagemaker"), made.attributes["EndpointName"]
        _tag(here, made.physical_id, old, new)
        if _but_tags(old) == _but_tags(new):
            return made
        now = _settled(sagemaker, name)
        is_back = old["EndpointConfigName"] != new["EndpointConfigName"] == now["EndpointConfigName"]
        if is_back and here.undone != "refused":
            # SageMaker has undone the update by itself, and this is the stack's own rollback.
            return made
        call(sagemaker, "UpdateEndpoint", {**new, "EndpointName": name})
        now = _settled(sagemaker, name)
        if now["EndpointConfigName"] != new["EndpointConfigName"] and here.undone != "unnoticed":
            raise AwsError("NotStabilized", str(now.get("FailureReason", "the update was rolled back")))
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        sagemaker, name = here.client("sagemaker"), made.attributes["EndpointName"]
        _settled(sagemaker, name)
        sagemaker.delete_endpoint(EndpointName=name)
        while _is_there(sagemaker, name):
            time.sleep(_POLL_S)


def _but_tags(properties: Properties) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name != "Tags"}


def _is_there(sagemaker: Any, name: str) -> bool:
    try:
        sagemaker.describe_endpoint(EndpointName=name)
    except ClientError as error:
        if "Could not find" in error.response["Error"]["Message"]:
            return False
        raise
    return True


def _settled(sagemaker: Any, name: str) -> Any:
    """An endpoint's description, when it has stopped changing."""
    while True:
        found = sagemaker.describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] not in ("Creating", "Updating", "RollingBack", "SystemUpdating"):
            return found
        time.sleep(_POLL_S)


def _tag(here: Here, arn: str, old: Properties, new: Properties) -> None:
    before = {tag["Key"] for tag in old.get("Tags", [])}
    after = {tag["Key"] for tag in new.get("Tags", [])}
    sagemaker = here.client("sagemaker")
    if before - after:
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=sorted(before - after))
    if new.get("Tags"):
        sagemaker.add_tags(ResourceArn=arn, Tags=new["Tags"])
