"""Endpoints of SageMaker with their instances, what these cost, and what the endpoints use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from inf2kit.catalog import prices
from inf2kit.inventory.resources import EndpointInstances, Resource

_THREADS = 8
#: Statuses of endpoints that have, or will have, instances.
_WITHOUT_INSTANCES = ("Failed", "OutOfService", "Deleting")


@dataclass(frozen=True)
class DescribedEndpoint:
    """An endpoint and what it uses.

    Attributes:
        resource: The endpoint.
        instances: Its instances.
        configurations: Names of the configurations in use, that of a running update too.
        models: Names of their models.
    """

    resource: Resource
    instances: EndpointInstances
    configurations: tuple[str, ...]
    models: tuple[str, ...]


def describe_endpoints(sagemaker: Any, region: str) -> list[DescribedEndpoint]:
    """Describe every endpoint of a region; one that is deleted meanwhile is left out.

    Raises:
        botocore.exceptions.ClientError: SageMaker refuses.
    """
    pages = sagemaker.get_paginator("list_endpoints").paginate()
    names = [summary["EndpointName"] for page in pages for summary in page["Endpoints"]]
    with ThreadPoolExecutor(_THREADS) as pool:
        described = pool.map(lambda name: _describe(sagemaker, name, region), names)
        return [endpoint for endpoint in described if endpoint]


def _describe(sagemaker: Any, name: str, region: str) -> DescribedEndpoint | None:
    endpoint = _find(sagemaker.describe_endpoint, EndpointName=name)
    if endpoint is None:
        return None
    pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    names = tuple(dict.fromkeys(filter(None, (endpoint.get("EndpointConfigName"), pending))))
    configs = [_find(sagemaker.describe_endpoint_config, EndpointConfigName=name) or {} for name in names]
    variants = [variant for config in configs for variant in config.get("ProductionVariants", ())]
    status = str(endpoint["EndpointStatus"])
    counts: dict[str, int] = {}
    if status not in _WITHOUT_INSTANCES:
        running = configs[0].get("ProductionVariants", ()) if configs else ()
        for instance_type, count in _count(running, endpoint.get("ProductionVariants", ())):
            counts[instance_type] = counts.get(instance_type, 0) + count
    detail = " + ".join(f"{count} x {instance_type}" for instance_type, count in counts.items())
    resource = Resource(
        "endpoint",
        name,
        endpoint["EndpointArn"],
        status,
        endpoint.get("FailureReason", "") if status == "Failed" else detail,
        created=endpoint.get("CreationTime"),
        bills=bool(sum(counts.values())) or (status not in _WITHOUT_INSTANCES and not variants),
        usd_per_hour=_hourly_cost(counts, region) if variants else None,
    )
    models = tuple(variant["ModelName"] for variant in variants if "ModelName" in variant)
    return DescribedEndpoint(resource, EndpointInstances(name, counts), names, models)


def _count(configured: Any, running: Any) -> Iterator[tuple[str, int]]:
    """Yield the instance type and number of each variant: as configured while the endpoint is created."""
    current = {variant["VariantName"]: variant.get("CurrentInstanceCount") for variant in running}
    for variant in configured:
        if "InstanceType" not in variant:
            continue
        count = current.get(variant["VariantName"])
        yield variant["InstanceType"], variant.get("InitialInstanceCount", 1) if count is None else count


def _hourly_cost(counts: Mapping[str, int], region: str) -> float | None:
    """Return what instances cost in an hour; None if a price is not known."""
    usd = 0.0
    for instance_type, count in counts.items():
        price = prices.hourly_price(instance_type, region)
        if price is None:
            return None
        usd += count * price.usd_per_hour
    return usd


def _find(describe: Any, **name: str) -> dict[str, Any] | None:
    """Describe a resource; None where it was deleted."""
    from botocore.exceptions import ClientError

    try:
        description: dict[str, Any] = describe(**name)
    except ClientError as error:
        if "Could not find" in str(error):
            return None
        raise
    return description
