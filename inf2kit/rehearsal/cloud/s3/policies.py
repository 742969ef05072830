"""Bucket policies: moto applies a statement without looking at its condition.

CDK's own bucket denies everything that does not come by TLS; for moto that is everything.
"""

from __future__ import annotations

import json
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.s3 import models


def install() -> None:
    """Leave statements with conditions out, from now on: IAM is not rehearsed."""
    permission = models.FakeBucket.get_permission

    def get_permission(bucket: Any, action: str, resource: str) -> Any:
        if bucket.policy is None:
            return permission(bucket, action, resource)
        policy = json.loads(bucket.policy)
        given = policy["Statement"]
        statements = [
            each for each in ([given] if isinstance(given, dict) else given) if "Condition" not in each
        ]
        if not statements:
            return PermissionResult.NEUTRAL
        return IAMPolicy({**policy, "Statement": statements}).is_action_permitted(action, resource)

    models.FakeBucket.get_permission = get_permission
