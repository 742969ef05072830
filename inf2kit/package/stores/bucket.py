"""Buckets and their owners: every call of S3 names the account that the bucket must belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError

_ACCOUNT = re.compile(r"\d{12}")
_OWNER_PARAMETERS = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")


def create_client(region_name: str | None, owner: str | None = None, **config: Any) -> tuple[Any, str]:
    """Create a client of S3, and return it with the account that its buckets must belong to.

    The name of a deleted bucket is free for everybody. With the owner in each call, S3 refuses a bucket of
    another account, which could receive private weights or supply foreign code.

    Args:
        region_name: The region; boto3's own by default.
        owner: The account; the account that calls by default.
        **config: Options for botocore's ``Config``.

    Raises:
        PackageError: the owner is no account, or AWS does not tell which account calls.
    """
    if owner is not None and not _ACCOUNT.fullmatch(owner):
        raise PackageError(f"the bucket's owner is {owner!r}; give an AWS account, 12 digits")
    with aws.translate_errors(PackageError, "asking AWS which account calls"):
        account = owner or str(aws.client("sts", region_name).get_caller_identity()["Account"])
    s3 = aws.client("s3", region_name, **config)

    def add_owner(params: dict[str, Any], model: Any, **_: Any) -> None:
        for name in _OWNER_PARAMETERS:
            if name in model.input_shape.members:
                params[name] = account

    s3.meta.events.register("before-parameter-build.s3", add_owner)
    return s3, account


def find_foreign_grants(policy: Mapping[str, Any], owner: str) -> list[str]:
    """Return the principals of other accounts that a bucket's policy admits.

    Conditions are ignored, so a principal that a condition excludes is returned too.

    Args:
        policy: The parsed answer of ``GetBucketPolicy``.
        owner: The bucket's account.
    """
    principals = []
    for statement in as_list(policy.get("Statement")):
        if statement.get("Effect") != "Allow":
            continue
        principal = statement.get("Principal", {})
        if not isinstance(principal, dict):
            principal = {"AWS": principal}
        # A service acts for accounts that the statement does not name, and is not counted. A "NotPrincipal"
        # admits everybody else.
        principals += ["everybody but some" for _ in as_list(statement.get("NotPrincipal"))]
        for kind in set(principal) - {"Service"}:
            principals += [
                str(name) for name in as_list(principal[kind]) if not _is_in_account(str(name), owner)
            ]
    return sorted(set(principals))


def _is_in_account(principal: str, account: str) -> bool:
    return principal == account or (principal.startswith("arn:") and principal.split(":")[4:5] == [account])


def as_list(value: Any) -> list[Any]:
    """Return a value of a policy as a list: policies write one without brackets."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
