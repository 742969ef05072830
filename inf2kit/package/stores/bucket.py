"""A client of S3 that names the bucket's owner at each call, so that nobody else's bucket is taken for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError

_ACCOUNT = re.compile(r"\d{12}")
_OWNERS = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")


def client(region_name: str | None, owner: str | None = None, **config: Any) -> tuple[Any, str]:
    """A client, and the account that its buckets must belong to.

    A name of a bucket that was deleted is free for everybody. S3 then refuses each call, which would send
    private weights to somebody else or load somebody else's code.

    Args:
        region_name: boto3's own by default.
        owner: The account; that of whoever calls by default.
        **config: Options for botocore's ``Config``.

    Raises:
        PackageError: the owner is no account, or AWS does not say which one calls.
    """
    if owner is not None and not _ACCOUNT.fullmatch(owner):
        raise PackageError(f"the bucket's owner is {owner!r}; give an AWS account, 12 digits")
    with aws.translate_errors(PackageError, "asking AWS which account calls"):
        account = owner or str(aws.client("sts", region_name).get_caller_identity()["Account"])
    s3 = aws.client("s3", region_name, **config)

    def name_owner(params: dict[str, Any], model: Any, **_: Any) -> None:
        for name in _OWNERS:
            if name in model.input_shape.members:
                params[name] = account

    s3.meta.events.register("before-parameter-build.s3", name_owner)
    return s3, account


def foreign_grants(policy: Mapping[str, Any], owner: str) -> list[str]:
    """Whom a bucket's policy lets in who is not of the bucket's account.

    A condition may keep some of them out again; that is not looked at.

    Args:
        policy: As ``GetBucketPolicy`` gives it, once parsed.
        owner: The bucket's account.
    """
    principals = []
    for statement in _listed(policy.get("Statement")):
        if statement.get("Effect") != "Allow":
            continue
        principal = statement.get("Principal", {})
        if not isinstance(principal, dict):
            principal = {"AWS": principal}
        # A service acts for whoever has told it to, and a "NotPrincipal" is everybody else.
        principals += ["everybody but some" for _ in _listed(statement.get("NotPrincipal"))]
        for kind in set(principal) - {"Service"}:
            principals += [str(each) for each in _listed(principal[kind]) if not _is_of(str(each), owner)]
    return sorted(set(principals))


def _is_of(principal: str, owner: str) -> bool:
    return principal == owner or (principal.startswith("arn:") and principal.split(":")[4:5] == [owner])


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
