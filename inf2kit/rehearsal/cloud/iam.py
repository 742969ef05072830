"""The permissions of an execution role, for the calls that SageMaker makes with it.

The role's policies, its permissions boundary and its trust policy are evaluated. Policies of buckets and keys
are not.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend, iam_backends
from moto.s3.models import s3_backends

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.settings import ACCOUNT

_PARTITION = "aws"
_SERVICE = "sagemaker.amazonaws.com"


@dataclass(frozen=True)
class ExecutionRole:
    """An execution role, assumed by SageMaker.

    Attributes:
        role_arn: The role's ARN.
        source_arn: The ARN of the model or endpoint that the role is assumed for.
    """

    role_arn: str
    source_arn: str

    def check_trust(self) -> None:
        """Check that the role trusts SageMaker.

        Raises:
            AwsError: it does not, or there is no such role.
        """
        if not trusts(self.role_arn, _SERVICE, self._context()):
            raise AwsError(
                "ValidationException",
                f"Could not assume role {self.role_arn}. Please ensure that the role exists and allows "
                f"principal '{_SERVICE}' to assume the role.",
            )

    def check_model(self, uri: str, keys: Iterable[str]) -> None:
        """Check that the role may list a model's prefix and read each of its objects.

        Args:
            uri: ``s3://BUCKET/PREFIX/``.
            keys: The objects' keys, relative to the prefix.

        Raises:
            AwsError: the role does not allow it.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        allowed = self.allows("s3:ListBucket", _arn(bucket), **{"s3:prefix": prefix}) and all(
            self.may_read(f"s3://{bucket}/{prefix}{key}") for key in keys
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

    def may_read(self, uri: str) -> bool:
        """Whether the role may read an object, and decrypt it if its bucket has a default KMS key."""
        bucket, _, name = uri.removeprefix("s3://").partition("/")
        return self.allows("s3:GetObject", _arn(bucket, name)) and self._may_use_key(
            _key_of(bucket), "kms:Decrypt"
        )

    def may_write(self, uri: str, key_arn: str = "") -> bool:
        """Whether the role may write and encrypt an object.

        Args:
            uri: The object's ``s3://`` URI.
            key_arn: The KMS key that encrypts it; empty means the bucket's default key, if any.
        """
        bucket, _, name = uri.removeprefix("s3://").partition("/")
        return self.allows("s3:PutObject", _arn(bucket, name)) and self._may_use_key(
            key_arn or _key_of(bucket), "kms:GenerateDataKey"
        )

    def allows(self, action: str, resource: str, **context: str) -> bool:
        """Whether the role's policies allow an action.

        Args:
            action: Such as ``s3:GetObject``.
            resource: The resource's ARN.
            context: Condition keys in addition to the global ones.
        """
        role = _role(self.role_arn)
        if role is None:
            return False
        context = {**self._context(), **context}
        documents = [*role.policies.values(), *map(_document, role.managed_policies.values())]
        statements = [statement for document in documents for statement in _statements(document)]
        if role.permissions_boundary_arn:
            boundary = _policies().get(role.permissions_boundary_arn)
            limits = _statements(_document(boundary)) if boundary else []
            if not _decide(limits, action, resource, context):
                return False
        return _decide(statements, action, resource, context)

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


def trusts(role_arn: str, service: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether a role exists and lets a service assume it.

    Args:
        role_arn: The role's ARN.
        service: The service's principal, such as ``cloudformation.amazonaws.com``.
        context: Condition keys of the service's request.
    """
    role = _role(role_arn)
    trust = [] if role is None else _statements(role.assume_role_policy_document)
    of_service = [
        statement for statement in trust if service in _values(statement.get("Principal", {}), "Service")
    ]
    return _decide(of_service, "sts:AssumeRole", "*", context or {})


def install() -> None:
    """Patch moto to refuse a permissions boundary that does not exist, as IAM does."""
    for name in ("create_role", "put_role_permissions_boundary"):
        setattr(IAMBackend, name, _with_existing_boundary(getattr(IAMBackend, name)))


def _with_existing_boundary(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        arn = signature.bind(*args, **kwargs).arguments.get("permissions_boundary")
        if arn and arn not in _policies():
            raise NotFoundException(f"Scope ARN: {arn} does not exist or is not attachable.")
        return method(*args, **kwargs)

    return checked


def _decide(
    statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, str]
) -> bool:
    """Whether at least one statement allows an action and none denies it."""
    effects = {
        statement["Effect"] for statement in statements if _applies(statement, action, resource, context)
    }
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a statement matches an action, a resource and the condition keys."""
    if "NotAction" in statement:
        has_action = not _any_like(_values(statement, "NotAction"), action, ignore_case=True)
    else:
        has_action = _any_like(_values(statement, "Action"), action, ignore_case=True)
    if "NotResource" in statement:
        has_resource = not _any_like(_values(statement, "NotResource"), resource)
    else:
        # A statement of a trust policy has no Resource.
        has_resource = "Resource" not in statement or _any_like(_values(statement, "Resource"), resource)
    conditions = statement.get("Condition", {}).items()
    return (
        has_action
        and has_resource
        and all(
            _holds(operator, key, values, context)
            for operator, operands in conditions
            for key, values in operands.items()
        )
    )


_COMPARISONS: dict[str, Callable[[list[str], str], bool]] = {
    "StringEquals": lambda values, actual: actual in values,
    "StringEqualsIgnoreCase": lambda values, actual: actual.lower() in [value.lower() for value in values],
    "StringLike": lambda values, actual: _any_like(values, actual),
    "ArnEquals": lambda values, actual: _any_like(values, actual),
    "ArnLike": lambda values, actual: _any_like(values, actual),
    "Bool": lambda values, actual: actual in [value.lower() for value in values],
}


def _holds(operator: str, key: str, values: Any, context: Mapping[str, str]) -> bool:
    """Whether a condition holds; false if its key or its operator is unknown."""
    actual = {name.lower(): value for name, value in context.items()}.get(key.lower())
    if actual is None:
        return operator.endswith("IfExists")
    plain = operator.removesuffix("IfExists")
    positive = re.sub(r"^(String|Arn)Not", r"\1", plain)
    compare = _COMPARISONS.get(positive)
    texts = [str(value) for value in (values if isinstance(values, list) else [values])]
    return compare is not None and compare(texts, actual) == (positive == plain)


def _any_like(patterns: Iterable[str], text: str, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        patterns, text = [pattern.lower() for pattern in patterns], text.lower()
    # IAM's patterns have no character sets, fnmatch's have.
    return any(fnmatch.fnmatchcase(text, pattern.replace("[", "[[]")) for pattern in patterns)


def _values(element: Any, name: str) -> list[str]:
    """The values of a policy element that may be a string or a list."""
    values = element.get(name, []) if isinstance(element, Mapping) else []
    return [values] if isinstance(values, str) else list(values)


def _statements(document: str) -> list[dict[str, Any]]:
    statements = json.loads(document or "{}").get("Statement", [])
    return [statements] if isinstance(statements, dict) else list(statements)


def _document(policy: Any) -> str:
    return str(next(version.document for version in policy.versions if version.is_default))


def _policies() -> Mapping[str, Any]:
    """All managed policies by ARN."""
    policies: Mapping[str, Any] = iam_backends[ACCOUNT][_PARTITION].managed_policies
    return policies


def _role(arn: str) -> Any:
    roles = iam_backends[ACCOUNT][_PARTITION].roles.values()
    return next((role for role in roles if role.arn == arn), None)


def _arn(bucket: str, key: str = "") -> str:
    return f"arn:{_PARTITION}:s3:::{bucket}" + (f"/{key}" if key else "")


def _key_of(bucket: str) -> str:
    """The KMS key of a bucket's default encryption; empty without one."""
    fake_bucket = s3_backends[ACCOUNT][_PARTITION].buckets.get(bucket)
    rules = ((fake_bucket.encryption if fake_bucket else None) or {}).get("Rule", {})
    rule = rules[0] if isinstance(rules, list) else rules
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    uses_kms = str(default.get("SSEAlgorithm", "")).startswith("aws:kms")
    return str(default.get("KMSMasterKeyID") or "") if uses_kms else ""
