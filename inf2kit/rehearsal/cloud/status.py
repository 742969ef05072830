"""The table of ``inf2kit cloud status``."""

from __future__ import annotations

from typing import Any

from inf2kit import aws
from inf2kit.rehearsal.cloud.settings import CloudSettings

#: Kind, name, status and a detail.
Row = tuple[str, str, str, str]


def list_rows(settings: CloudSettings) -> list[Row]:
    """List the cloud's stacks and endpoints, after a header row."""
    rows: list[Row] = [("KIND", "NAME", "STATUS", "DETAIL")]
    for stack in _client(settings, "cloudformation").describe_stacks()["Stacks"]:
        reason = stack.get("StackStatusReason", "")
        rows.append(("stack", stack["StackName"], stack["StackStatus"], reason))
    sagemaker = _client(settings, "sagemaker")
    for page in sagemaker.get_paginator("list_endpoints").paginate():
        for summary in page["Endpoints"]:
            endpoint = sagemaker.describe_endpoint(EndpointName=summary["EndpointName"])
            instances = sum(variant["CurrentInstanceCount"] for variant in endpoint["ProductionVariants"])
            detail = endpoint.get("FailureReason") or f"{instances} instance{'' if instances == 1 else 's'}"
            rows.append(("endpoint", endpoint["EndpointName"], endpoint["EndpointStatus"], detail))
    return rows


def _client(settings: CloudSettings, service: str) -> Any:
    session = aws.local_session(settings.access_key, settings.region)
    return aws.client(service, session=session, endpoint_url=settings.url)
