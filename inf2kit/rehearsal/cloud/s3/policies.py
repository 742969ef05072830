"""Bucket policies: moto applies every statement, whether its condition holds or not.

CDK's bootstrap bucket denies requests without TLS; plain moto would then deny all requests. Conditions about
the encryption of what is written are computed here as S3 does; statements with other conditions are skipped.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import models
from moto.s3.exceptions import S3ClientError

_PREFIX = "s3:x-amz-server-side-encryption"


class _DeniedError(S3ClientError):
    """S3's answer to what a bucket's policy denies."""

    code = 403

    def __init__(self, action: str, resource: str) -> None:
        message = (
            f'User: the caller is not authorized to perform: {action} on resource: "{resource}" with an '
            "explicit deny in a resource-based policy"
        )
        super().__init__("AccessDenied", message)


def install() -> None:
    """Patch moto to compute conditions about encryption, and to skip statements with others."""
    permission = models.FakeBucket.get_permission

    def get_permission(bucket: Any, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return permission(bucket, action, resource)
        policy = json.loads(bucket.policy)
        statements = policy["Statement"]
        statements = [statements] if isinstance(statements, dict) else statements
        headers = _headers_of_write()
        if headers is not None:
            denied = [
                {name: value for name, value in statement.items() if name != "Condition"}
                for statement in statements
                if statement["Effect"] == "Deny" and _holds(statement.get("Condition"), headers)
            ]
            write = "s3:PutObject"
            if denied and _policy(policy, denied).is_action_permitted(write, resource) == (
                PermissionResult.DENIED
            ):
                raise _DeniedError(write, resource)
        statements = [statement for statement in statements if "Condition" not in statement]
        if not statements:
            return PermissionResult.NEUTRAL
        return _policy(policy, statements).is_action_permitted(action, resource)

    models.FakeBucket.get_permission = get_permission


def _policy(policy: Mapping[str, Any], statements: list[dict[str, Any]]) -> Any:
    return IAMPolicy(json.dumps({**policy, "Statement": statements}))


def _headers_of_write() -> dict[str, str] | None:
    """Return the headers of the request if it begins an object; None for others.

    A part is written as its upload was begun, and has no header of its own.
    """
    from flask import has_request_context, request

    if not has_request_context() or "uploadId" in request.args:
        return None
    begins = request.method == "PUT" or (request.method == "POST" and "uploads" in request.args)
    return {name.lower(): value for name, value in request.headers} if begins else None


def _holds(condition: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bool:
    """Return whether a statement has no condition, or one about encryption alone that holds."""
    return all(
        key.lower().startswith(_PREFIX) and _compares(operator, headers.get(key[3:].lower()), values)
        for operator, keys in (condition or {}).items()
        for key, values in keys.items()
    )


def _compares(operator: str, header: str | None, values: Any) -> bool:
    """Apply an operator of IAM to a header, which may be missing."""
    expected = [str(value) for value in (values if isinstance(values, list) else [values])]
    if operator == "Null":
        return (header is None) == (expected[0].lower() == "true")
    negated = "Not" in operator
    if header is None:
        return negated or operator.endswith("IfExists")
    if "Like" in operator:
        matches = any(fnmatch.fnmatchcase(header, value) for value in expected)
    else:
        matches = header in expected
    return matches != negated
