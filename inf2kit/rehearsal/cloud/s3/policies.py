"""Bucket policies: moto applies every statement, whether its condition holds or not.

CDK's bootstrap bucket denies requests without TLS; plain moto would then deny all requests.
"""

from __future__ import annotations

import json
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import models


def install() -> None:
    """Patch moto to skip the statements of a bucket policy that have a condition."""
    permission = models.FakeBucket.get_permission

    def get_permission(bucket: Any, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return permission(bucket, action, resource)
        policy = json.loads(bucket.policy)
        statements = policy["Statement"]
        statements = [statements] if isinstance(statements, dict) else statements
        statements = [statement for statement in statements if "Condition" not in statement]
        if not statements:
            return PermissionResult.NEUTRAL
        return IAMPolicy({**policy, "Statement": statements}).is_action_permitted(action, resource)

    models.FakeBucket.get_permission = get_permission
