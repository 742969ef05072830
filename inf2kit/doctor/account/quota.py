"""The quota of endpoint instances: used, allowed, requested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from inf2kit import catalog
from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings, stand_in

_SERVICE = "sagemaker"
_PENDING = ("PENDING", "CASE_OPENED")
#: An update starts as many new instances beside the old ones.
_WITH_UPDATE = 2


@dataclass(frozen=True)
class _Quota:
    code: str
    limit: int


def endpoint_usage(surroundings: Surroundings) -> Iterator[Finding]:
    """One line for each instance type: most accounts begin with a quota of 0."""
    inventory = surroundings.inventory
    quotas = surroundings.client("service-quotas")
    for instance_type in surroundings.instance_types:
        name = f"{instance_type} for endpoint usage"
        with _say_without_quotas():
            quota = _find(quotas, instance_type, name)
        if quota is None:
            text = f"{surroundings.region} has no quota {name!r}"
            yield problem(text, "the instance is not offered there; choose another --region")
            continue
        unknown = "endpoints" in inventory.unlisted
        used = None if unknown else inventory.instances_in_use(instance_type)
        pending = _find_pending(quotas, quota.code)
        yield _judge(surroundings, name, quota, used, pending)


@contextmanager
def _say_without_quotas() -> Iterator[None]:
    """Raise NotCheckedError where a rehearsal cloud was started without quotas."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if not stand_in() or error.response["Error"]["Code"] != "UnsupportedOperationException":
            raise
        hint = "a rehearsal cloud has quotas after: inf2kit cloud up --quota INSTANCE=NUMBER"
        raise NotCheckedError(f"{stand_in()} stands in for AWS and has no quotas", hint=hint) from None


def _judge(
    surroundings: Surroundings, name: str, quota: _Quota, used: int | None, pending: int | None
) -> Finding:
    if used is None:
        text = f"{name}: {quota.limit} allowed; how many are in use could not be listed"
        used = 0
    else:
        text = f"{name}: {used} of {quota.limit} used"
    free = quota.limit - used
    desired = used + (1 if free < 1 else _WITH_UPDATE)
    if pending is not None:
        text += f"; an increase to {pending} is requested"
    command = (
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {quota.code} --desired-value {desired} --region {surroundings.region}"
    )
    console = (
        f"https://{surroundings.region}.console.aws.amazon.com/servicequotas/home/services/{_SERVICE}/"
        f"quotas/{quota.code}"
    )
    if free < 1 and pending is not None and pending > used:
        return advice(text, f"wait for AWS's answer: {console}")
    if free < 1:
        # Without a preset nobody has said that this instance is wanted.
        complain = problem if surroundings.is_deployment else advice
        return complain(text, f"ask for more, which takes hours to days; or on {console}", command)
    if free < _WITH_UPDATE:
        return ok(text, f"enough to deploy; an update needs {_WITH_UPDATE} for a while", command)
    return ok(text)


def _find(quotas: Any, instance_type: str, name: str) -> _Quota | None:
    """Find a quota by its code or, as AWS does not document codes, by its name; None if there is none."""
    from botocore.exceptions import ClientError

    code = catalog.quotas().get(instance_type)
    if code:
        try:
            quota = quotas.get_service_quota(ServiceCode=_SERVICE, QuotaCode=code)["Quota"]
            if quota["QuotaName"] == name:
                return _Quota(code, int(quota["Value"]))
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchResourceException":
                raise
    # Applied quotas first: those that were never changed are only among the defaults.
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        for page in quotas.get_paginator(operation).paginate(ServiceCode=_SERVICE):
            for quota in page["Quotas"]:
                if quota["QuotaName"] == name:
                    return _Quota(quota["QuotaCode"], int(quota["Value"]))
    return None


def _find_pending(quotas: Any, code: str) -> int | None:
    """Return the value that was asked for and not answered yet; None if there is no such request."""
    pages = quotas.get_paginator("list_requested_service_quota_change_history_by_quota")
    for page in pages.paginate(ServiceCode=_SERVICE, QuotaCode=code):
        for request in page["RequestedQuotas"]:
            if request["Status"] in _PENDING:
                return int(request["DesiredValue"])
    return None
