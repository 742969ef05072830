"""What exists: one resource, and all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resource:
    """Something of inf2kit that exists in an account.

    Attributes:
        kind: ``endpoint``, ``endpoint configuration``, ``model``, ``compilation job``, ``log group`` or
            ``parameter``.
        name: Its name.
        arn: Its ARN.
        status: SageMaker's status of an endpoint or job; empty for what has none.
        detail: What else matters, such as ``1 x ml.inf2.xlarge``.
        created: When it was created; None where AWS does not say.
        bills: Whether it is billed by the hour while it exists.
        usd_per_hour: What that costs; None where no price is known.
        stack: The CloudFormation stack that it belongs to; empty if it belongs to none.
        used_by: Names of the endpoints that use it.
        tagged: Whether it has inf2kit's tag. Only the log group of an endpoint with the tag is listed without
            one: SageMaker makes it where no stack has.
    """

    kind: str
    name: str
    arn: str
    status: str = ""
    detail: str = ""
    created: dt.datetime | None = field(default=None, compare=False)
    bills: bool = False
    usd_per_hour: float | None = 0.0
    stack: str = ""
    used_by: tuple[str, ...] = ()
    tagged: bool = True

    @property
    def label(self) -> str:
        """The resource in a sentence."""
        return f"{self.kind} {self.name}"

    @property
    def cost(self) -> str:
        """What it costs, in words."""
        if not self.bills:
            return "-"
        return "not known" if self.usd_per_hour is None else f"${self.usd_per_hour:.2f}/h"

    @property
    def identity(self) -> tuple[str, str, dt.datetime | None]:
        """What tells it from a later resource of the same name."""
        return self.kind, self.arn, self.created


@dataclass(frozen=True)
class EndpointInstances:
    """The instances of any endpoint of the account, of inf2kit or not.

    Attributes:
        name: The endpoint's name.
        counts: Number of instances by instance type.
    """

    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Inventory:
    """What exists of inf2kit in one region of one account, at one moment.

    Attributes:
        region: The region.
        resources: Endpoints first.
        endpoints: The instances of all endpoints, of inf2kit or not.
        package_places: ``s3://BUCKET/PREFIX`` of the packages that its models and parameters name.
        roles: ARNs of the execution roles of its models.
        failures: A sentence for each kind that could not be listed.
        unlisted: Those kinds, in the plural; ``stacks`` too.
    """

    region: str
    resources: tuple[Resource, ...]
    endpoints: tuple[EndpointInstances, ...] = ()
    package_places: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    unlisted: frozenset[str] = frozenset()

    @property
    def billing(self) -> tuple[Resource, ...]:
        """The resources that are billed by the hour."""
        return tuple(resource for resource in self.resources if resource.bills)

    @property
    def usd_per_hour(self) -> float:
        """What all of them cost, as far as prices are known."""
        return sum(resource.usd_per_hour or 0.0 for resource in self.billing)

    def instances_in_use(self, instance_type: str) -> int:
        """Return how many instances of a type all endpoints of the region have."""
        return sum(endpoint.counts.get(instance_type, 0) for endpoint in self.endpoints)
