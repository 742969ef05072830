"""Service Quotas: the account's numbers of instances for endpoints, if ``inf2kit cloud up --quota`` says any.

Without any, every number of instances is allowed, and the service says that it has no quotas.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from inf2kit import catalog
from inf2kit.rehearsal import validation
from inf2kit.rehearsal.cloud.errors import AwsError

#: What the header ``x-amz-target`` begins with.
TARGET = "ServiceQuotasV20190624"
_SERVICE = "sagemaker"


class Quotas:
    """The quotas of one account and region.

    Args:
        account: The account.
        region: The region.
        limits: Number of instances by instance type. The other types have 0, as in most accounts; None is no
            limit at all.
    """

    def __init__(self, account: str, region: str, limits: Mapping[str, int] | None) -> None:
        self._arn_prefix = f"arn:aws:servicequotas:{region}:{account}:{_SERVICE}"
        self._limits = limits
        self._requests: list[dict[str, Any]] = []
        self._handlers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "GetServiceQuota": lambda request: {"Quota": self._find(request)},
            "ListServiceQuotas": lambda _: {"Quotas": self._list()},
            "ListAWSDefaultServiceQuotas": lambda _: {
                "Quotas": [{**quota, "Value": 0} for quota in self._list()]
            },
            "RequestServiceQuotaIncrease": self._request_increase,
            "ListRequestedServiceQuotaChangeHistoryByQuota": self._list_requests,
        }

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Run one operation.

        Raises:
            AwsError: Service Quotas would refuse the request, or this cloud has no quotas.
        """
        if self._limits is None or operation not in self._handlers:
            raise AwsError(
                "UnsupportedOperationException",
                "This rehearsal has no quotas; start it with 'inf2kit cloud up --quota ml.inf2.xlarge=1'.",
            )
        if faults := validation.find_faults("service-quotas", operation, request):
            raise AwsError("IllegalArgumentException", faults)
        if request["ServiceCode"] != _SERVICE:
            raise AwsError("NoSuchResourceException", f"This rehearsal has quotas of {_SERVICE} only.")
        return self._handlers[operation](request)

    def check(self, used: Mapping[str, int], wanted: Mapping[str, int]) -> None:
        """Check that an account may have more instances.

        Args:
            used: Its instances by type.
            wanted: Those that are to be added.

        Raises:
            AwsError: a quota does not allow it.
        """
        for instance_type, delta in wanted.items():
            limit, in_use = self._limit(instance_type), used.get(instance_type, 0)
            if limit is not None and delta > 0 and in_use + delta > limit:
                raise AwsError(
                    "ResourceLimitExceeded",
                    f"The account-level service limit '{_name(instance_type)}' is {limit} Instances, with "
                    f"current utilization of {in_use} Instances and a request delta of {delta} Instances. "
                    "Please use AWS Service Quotas to request an increase for this quota. If AWS Service "
                    "Quotas is not available, contact AWS support to request an increase for this quota.",
                )

    def _limit(self, instance_type: str) -> int | None:
        return None if self._limits is None else self._limits.get(instance_type, 0)

    def _list(self) -> list[dict[str, Any]]:
        return [
            {
                "ServiceCode": _SERVICE,
                "ServiceName": "Amazon SageMaker",
                "QuotaArn": f"{self._arn_prefix}/{code}",
                "QuotaCode": code,
                "QuotaName": _name(instance_type),
                "Value": self._limit(instance_type),
                "Unit": "None",
                "Adjustable": True,
                "GlobalQuota": False,
            }
            for instance_type, code in catalog.quotas().items()
        ]

    def _find(self, request: Mapping[str, Any]) -> dict[str, Any]:
        for quota in self._list():
            if quota["QuotaCode"] == request["QuotaCode"]:
                return quota
        raise AwsError(
            "NoSuchResourceException", "The request failed because the specified quota does not exist."
        )

    def _request_increase(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take a request, which is never answered here: AWS takes hours to days, and may refuse it."""
        quota, desired = self._find(request), request["DesiredValue"]
        if desired <= quota["Value"]:
            raise AwsError("IllegalArgumentException", "Ask for more than the current value.")
        if any(earlier["QuotaCode"] == quota["QuotaCode"] for earlier in self._requests):
            raise AwsError("ResourceAlreadyExistsException", "A request for this quota is open already.")
        names = ("ServiceCode", "ServiceName", "QuotaArn", "QuotaCode", "QuotaName", "Unit", "GlobalQuota")
        copied = {name: quota[name] for name in names}
        record = {"Id": uuid.uuid4().hex, **copied, "DesiredValue": desired, "Status": "PENDING"}
        self._requests.append(record)
        return {"RequestedQuota": record}

    def _list_requests(self, request: Mapping[str, Any]) -> dict[str, Any]:
        code = request["QuotaCode"]
        return {"RequestedQuotas": [other for other in self._requests if other["QuotaCode"] == code]}


def _name(instance_type: str) -> str:
    return f"{instance_type} for endpoint usage"
