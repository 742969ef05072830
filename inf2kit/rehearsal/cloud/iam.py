"""What an execution role allows, for the calls that SageMaker makes in its name.

The role's policies, its boundary and its trust policy are evaluated; policies of buckets and keys are not.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.settings import ACCOUNT

_PARTITION = "aws"
_SERVICE = "sagemaker.amazonaws.com"


@dataclass(frozen=True)
class Execution:
    """SageMaker in an execution role.

    Attributes:
        role_arn: Of the role.
        source_arn: Of the model or endpoint that the role is assumed for.
    """

    role_arn: str
    source_arn: str

    def check_trust(self) -> None:
        """SageMaker must be trusted by the role.

        Raises:
            AwsError: it is not, or there is no such role.
        """
        role = _role(self.role_arn)
        trust = [] if role is None else _statements(role.assume_role_policy_document)
        trusting = [each for each in trust if _SERVICE in _listed(each.get("Principal", {}), "Service")]
        if not _decide(trusting, "sts:AssumeRole", "*", self._context()):
            raise AwsError(
                "ValidationException",
                f"Could not assume role {self.role_arn}. Please ensure that the role exists and allows "
                f"principal '{_SERVICE}' to assume the role.",
            )

    def check_model(self, uri: str, keys: Iterable[str]) -> None:
        """The files of a model must be readable, each of them, and the prefix may be listed.

        Args:
            uri: ``s3://BUCKET/PREFIX/``.
            keys: The objects' keys below the prefix.

        Raises:
            AwsError: the role does not allow it.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        allowed = self.allows("s3:ListBucket", _arn(bucket), **{"s3:prefix": prefix}) and all(
            self.reads(f"s3://{bucket}/{prefix}{key}") for key in keys
        )
        if not allowed:
            raise AwsError(
                "ValidationException",
                f'Could not access model data at {uri}. Please ensure that the role "{self.role_arn}" exists '
                'and that its trust relationship policy allows the action "sts:AssumeRole" for the service '
                f'principal "{_SERVICE}". Also ensure that the role has "s3:GetObject" permissions and that '
                "the object is located in the region of the model. If your Model uses multiple models or "
                'uncompressed models, please ensure that the role has "s3:ListBucket" permission.',
            )

    def reads(self, uri: str) -> bool:
        """Whether an object may be read, and decrypted where its bucket's key encrypts it."""
        bucket, _, name = uri.removeprefix("s3://").partition("/")
        return self.allows("s3:GetObject", _arn(bucket, name)) and self._may_use_key(
            _key_of(bucket), "kms:Decrypt"
        )

    def writes(self, uri: str, key_arn: str = "") -> bool:
        """Whether an object may be written, and encrypted.

        Args:
            uri: Of the object.
            key_arn: What encrypts it; nothing means the bucket's own key, if it has one.
        """
        bucket, _, name = uri.removeprefix("s3://").partition("/")
        return self.allows("s3:PutObject", _arn(bucket, name)) and self._may_use_key(
            key_arn or _key_of(bucket), "kms:GenerateDataKey"
        )

    def allows(self, action: str, resource: str, **context: str) -> bool:
        """Whether the role's policies allow an action."""
        role = _role(self.role_arn)
        if role is None:
            return False
        known = {**self._context(), **context}
        documents = [*role.policies.values(), *map(_document, role.managed_policies.values())]
        statements = [each for document in documents for each in _statements(document)]
        boundary = role.permissions_boundary_arn
        if boundary:
            limit = iam_backends[ACCOUNT][_PARTITION].get_policy(boundary)
            if not _decide(_statements(_document(limit)), action, resource, known):
                return False
        return _decide(statements, action, resource, known)

    def _may_use_key(self, key: str, action: str) -> bool:
        return not key or self.allows(action, key)

    def _context(self) -> dict[str, str]:
        region = self.source_arn.split(":")[3]
        return {
            "aws:SourceAccount": ACCOUNT,
            "aws:SourceArn": self.source_arn,
            "aws:PrincipalAccount": ACCOUNT,
            "aws:ResourceAccount": ACCOUNT,
            "s3:ResourceAccount": ACCOUNT,
            "aws:SecureTransport": "true",
            "aws:RequestedRegion": region,
            "kms:ViaService": f"s3.{region}.amazonaws.com",
        }


def _decide(
    statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, str]
) -> bool:
    """A statement must allow it, and none deny it."""
    effects = {each["Effect"] for each in statements if _applies(each, action, resource, context)}
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    if "NotAction" in statement:
        named = not _any_like(_listed(statement, "NotAction"), action, ignore_case=True)
    else:
        named = _any_like(_listed(statement, "Action"), action, ignore_case=True)
    if "NotResource" in statement:
        meant = not _any_like(_listed(statement, "NotResource"), resource)
    else:
        # A trust policy has none.
        meant = "Resource" not in statement or _any_like(_listed(statement, "Resource"), resource)
    conditions = statement.get("Condition", {}).items()
    return (
        named
        and meant
        and all(
            _holds(kind, key, values, context)
            for kind, wanted in conditions
            for key, values in wanted.items()
        )
    )


_COMPARISONS: dict[str, Callable[[list[str], str], bool]] = {
    "StringEquals": lambda values, own: own in values,
    "StringEqualsIgnoreCase": lambda values, own: own.lower() in [value.lower() for value in values],
    "StringLike": lambda values, own: _any_like(values, own),
    "ArnEquals": lambda values, own: _any_like(values, own),
    "ArnLike": lambda values, own: _any_like(values, own),
    "Bool": lambda values, own: own in [value.lower() for value in values],
}


def _holds(kind: str, key: str, values: Any, context: Mapping[str, str]) -> bool:
    """Whether a condition holds; one on what is not known here does not."""
    own = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if own is None:
        return kind.endswith("IfExists")
    plain = kind.removesuffix("IfExists")
    positive = re.sub(r"^(String|Arn)Not", r"\1", plain)
    compare = _COMPARISONS.get(positive)
    texts = [str(value) for value in (values if isinstance(values, list) else [values])]
    return compare is not None and compare(texts, own) == (positive == plain)


def _any_like(patterns: Iterable[str], text: str, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        patterns, text = [pattern.lower() for pattern in patterns], text.lower()
    # IAM has no sets of characters.
    return any(fnmatch.fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in patterns)


def _listed(statement: Any, name: str) -> list[str]:
    found = statement.get(name, []) if isinstance(statement, Mapping) else []
    return [found] if isinstance(found, str) else list(found)


def _statements(document: str) -> list[dict[str, Any]]:
    statements = json.loads(document or "{}").get("Statement", [])
    return [statements] if isinstance(statements, dict) else list(statements)


def _document(policy: Any) -> str:
    return str(next(version.document for version in policy.versions if version.is_default))


def _role(arn: str) -> Any:
    roles = iam_backends[ACCOUNT][_PARTITION].roles.values()
    return next((role for role in roles if role.arn == arn), None)


def _arn(bucket: str, key: str = "") -> str:
    return f"arn:{_PARTITION}:s3:::{bucket}" + (f"/{key}" if key else "")


def _key_of(bucket: str) -> str:
    """The KMS key that a bucket encrypts with by itself, or nothing."""
    found = s3_backends[ACCOUNT][_PARTITION].buckets.get(bucket)
    rules = ((found.encryption if found else None) or {}).get("Rule", {})
    rule = rules[0] if isinstance(rules, list) else rules
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    by_key = str(default.get("SSEAlgorithm", "")).startswith("aws:kms")
    return str(default.get("KMSMasterKeyID") or "") if by_key else ""
