"""List what exists of inf2kit in one region: SageMaker, log groups and parameters, by the tag of its preset.

Each service lists its own resources. AWS's index of tags is not asked: it lags behind, and names what was
deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from inf2kit import aws
from inf2kit.errors import DeploymentError
from inf2kit.inventory.endpoints import describe_endpoints
from inf2kit.inventory.resources import Inventory, Resource
from inf2kit.inventory.stacks import Ownership
from inf2kit.names import PRESET_TAG, log_group_name, parameter_name

#: Makes a boto3 client of a service in the region.
ClientFactory = Callable[[str], Any]
_Item = TypeVar("_Item")

#: AWS's own tag of everything that a stack has created.
_STACK_TAG = "aws:cloudformation:stack-name"
_THREADS = 8


def scan_account(client: ClientFactory, region: str) -> Inventory:
    """List everything of inf2kit in a region. What may not be listed is a sentence in ``failures``.

    Args:
        client: Makes a client of a service, in that region.
        region: The region.
    """
    return _Scan(client, region).run()


class _Scan:
    def __init__(self, client: ClientFactory, region: str) -> None:
        self._client, self._region = client, region
        self._failures: dict[str, str] = {}
        self._places: set[str] = set()
        self._roles: set[str] = set()

    def run(self) -> Inventory:
        ownership = self._try("stacks", lambda: Ownership.read(self._client("cloudformation")))
        endpoints = self._try(
            "endpoints", lambda: describe_endpoints(self._client("sagemaker"), self._region)
        )
        with ThreadPoolExecutor(_THREADS) as pool:

            def tagged(resources: list[Resource]) -> list[Resource]:
                return [resource for resource in pool.map(self._read_tags, resources) if resource]

            own = tagged([endpoint.resource for endpoint in endpoints or ()])
            listed = [
                *own,
                *(self._try("compilation jobs", lambda: tagged(list(self._jobs()))) or ()),
                *(self._try("endpoint configurations", lambda: tagged(list(self._configurations()))) or ()),
                *(self._try("models", lambda: tagged(list(self._models()))) or ()),
                *(self._try("parameters", lambda: list(self._parameters())) or ()),
                *(self._try("log groups", lambda: list(self._log_groups(own))) or ()),
            ]
        users = _users(endpoints or ())
        resources = [
            replace(
                resource,
                stack=ownership.stack_of(resource) if ownership else resource.stack,
                used_by=tuple(sorted(users.get((resource.kind, resource.name), ()))),
            )
            for resource in listed
        ]
        self._read_models([resource for resource in resources if resource.kind == "model"])
        return Inventory(
            self._region,
            tuple(resources),
            tuple(endpoint.instances for endpoint in endpoints or ()),
            tuple(sorted(self._places)),
            tuple(sorted(self._roles)),
            tuple(dict.fromkeys(self._failures.values())),
            frozenset(self._failures),
        )

    def _try(self, what: str, list_them: Callable[[], _Item]) -> _Item | None:
        """Return what a function lists; None, and a sentence in ``failures``, where AWS refuses."""
        try:
            with aws.translate_errors(DeploymentError, f"listing {what} in {self._region}"):
                return list_them()
        except DeploymentError as error:
            self._failures[what] = str(error)
            return None

    def _read_tags(self, resource: Resource) -> Resource | None:
        """Return a resource with its stack; None if it is not tagged as inf2kit's, or is gone."""
        from botocore.exceptions import ClientError

        try:
            pages = self._client("sagemaker").get_paginator("list_tags").paginate(ResourceArn=resource.arn)
            tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except ClientError as error:
            if "Could not find" in str(error) or "does not exist" in str(error):
                return None
            raise
        return _owned(resource, tags)

    def _jobs(self) -> Iterator[Resource]:
        pages = self._client("sagemaker").get_paginator("list_processing_jobs")
        for page in pages.paginate(StatusEquals="InProgress"):
            for job in page["ProcessingJobSummaries"]:
                yield Resource(
                    "compilation job",
                    job["ProcessingJobName"],
                    job["ProcessingJobArn"],
                    job["ProcessingJobStatus"],
                    created=job["CreationTime"],
                    bills=True,
                    usd_per_hour=None,
                )

    def _configurations(self) -> Iterator[Resource]:
        for page in self._client("sagemaker").get_paginator("list_endpoint_configs").paginate():
            for config in page["EndpointConfigs"]:
                yield Resource(
                    "endpoint configuration",
                    config["EndpointConfigName"],
                    config["EndpointConfigArn"],
                    created=config["CreationTime"],
                )

    def _models(self) -> Iterator[Resource]:
        for page in self._client("sagemaker").get_paginator("list_models").paginate():
            for model in page["Models"]:
                yield Resource("model", model["ModelName"], model["ModelArn"], created=model["CreationTime"])

    def _read_models(self, models: list[Resource]) -> None:
        """Read where the models' packages are, and which roles they have."""
        for model in models:
            call = partial(self._client("sagemaker").describe_model, ModelName=model.name)
            description = self._try("models", call)
            if description is None:
                continue
            self._roles.add(description["ExecutionRoleArn"])
            source = description.get("PrimaryContainer", {}).get("ModelDataSource", {})
            self._add_place(source.get("S3DataSource", {}).get("S3Uri", ""))

    def _parameters(self) -> Iterator[Resource]:
        ssm = self._client("ssm")
        pages = ssm.get_paginator("get_parameters_by_path")
        for page in pages.paginate(Path=parameter_name("").rstrip("/"), Recursive=True):
            for parameter in page["Parameters"]:
                listed = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=parameter["Name"])
                tags = {tag["Key"]: tag["Value"] for tag in listed["TagList"]}
                resource = _owned(
                    Resource(
                        "parameter",
                        parameter["Name"],
                        parameter["ARN"],
                        created=parameter["LastModifiedDate"],
                    ),
                    tags,
                )
                if resource:
                    self._add_place(_package_of(parameter["Value"]))
                    yield resource

    def _log_groups(self, endpoints: Sequence[Resource]) -> Iterator[Resource]:
        names = {log_group_name(endpoint.name) for endpoint in endpoints}
        logs = self._client("logs")
        pages = logs.get_paginator("describe_log_groups")
        for page in pages.paginate(logGroupNamePrefix=log_group_name("")):
            for group in page["logGroups"]:
                # The ARN of calls about tags has no ':*' at its end.
                arn = group["arn"].removesuffix(":*")
                tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
                name, size = group["logGroupName"], group.get("storedBytes", 0)
                resource = Resource("log group", name, arn, detail=f"{size / 1e6:.1f} MB")
                if owned := _owned(resource, tags):
                    yield owned
                elif name in names:
                    yield replace(resource, tagged=False)

    def _add_place(self, uri: str) -> None:
        """Remember the place of a package, ``s3://BUCKET/PREFIX/DIGEST/``."""
        place = uri.rstrip("/").rpartition("/")[0]
        if place.startswith("s3://") and place != "s3:/":
            self._places.add(place)


def _owned(resource: Resource, tags: Mapping[str, str]) -> Resource | None:
    """Return a resource with the stack that its tags name; None if it is not tagged as inf2kit's."""
    return replace(resource, stack=tags.get(_STACK_TAG, "")) if PRESET_TAG in tags else None


def _users(endpoints: Any) -> dict[tuple[str, str], set[str]]:
    """Return the endpoints that use each configuration and model, by kind and name."""
    users: dict[tuple[str, str], set[str]] = {}
    for endpoint in endpoints:
        for kind, names in (
            ("endpoint configuration", endpoint.configurations),
            ("model", endpoint.models),
        ):
            for name in names:
                users.setdefault((kind, name), set()).add(endpoint.resource.name)
    return users


def _package_of(value: str) -> str:
    """Return the package's URI in a parameter that a stack has written; empty for any other value."""
    try:
        return str(json.loads(value).get("package", ""))
    except (ValueError, AttributeError):
        return ""
