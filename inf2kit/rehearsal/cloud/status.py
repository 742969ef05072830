"""What is in the cloud, as its own services tell it."""

from __future__ import annotations

from typing import Any

from inf2kit import aws
from inf2kit.rehearsal.cloud.settings import CloudSettings

Row = tuple[str, str, str, str]


def rows(settings: CloudSettings) -> list[Row]:
    """A table of stacks and endpoints."""
    found: list[Row] = [("KIND", "NAME", "STATUS", "")]
    stacks = _client(settings, "cloudformation").describe_stacks()["Stacks"]
    found += [
        ("stack", each["StackName"], each["StackStatus"], each.get("StackStatusReason", ""))
        for each in stacks
    ]
    sagemaker = _client(settings, "sagemaker")
    for page in sagemaker.get_paginator("list_endpoints").paginate():
        for each in page["Endpoints"]:
            described = sagemaker.describe_endpoint(EndpointName=each["EndpointName"])
            instances = sum(variant["CurrentInstanceCount"] for variant in described["ProductionVariants"])
            shown = described.get("FailureReason") or f"{instances} instances"
            found.append(("endpoint", each["EndpointName"], described["EndpointStatus"], shown))
    return found


def _client(settings: CloudSettings, service: str) -> Any:
    return aws.client(
        service, session=aws.local_session(settings.access_key, settings.region), endpoint_url=settings.url
    )
