"""Encryption at rest: the headers that a bucket's policy may demand with everything that is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit.errors import PackageError
from inf2kit.names import ENCRYPTION_METHODS
from inf2kit.package.stores.bucket import as_list

_METHOD_KEY = "s3:x-amz-server-side-encryption"
_KMS_KEY = "s3:x-amz-server-side-encryption-aws-kms-key-id"
_WRITING = ("s3:putobject", "s3:put*", "s3:*", "*")


@dataclass(frozen=True)
class Encryption:
    """How S3 encrypts what is written; without one, as the bucket's default says.

    Attributes:
        method: One of ``names.ENCRYPTION_METHODS``.
        kms_key_id: A key of KMS: its ARN, id or alias. None for AWS's own key for S3.
    """

    method: str
    kms_key_id: str | None = None

    @classmethod
    def from_options(cls, sse: str | None, sse_kms_key_id: str | None) -> Encryption | None:
        """Read ``--sse`` and ``--sse-kms-key-id``.

        Raises:
            PackageError: a key is given without encryption by KMS.
        """
        if sse_kms_key_id and sse not in ENCRYPTION_METHODS[1:]:
            raise PackageError("--sse-kms-key-id needs encryption by KMS; add --sse aws:kms")
        return cls(sse, sse_kms_key_id) if sse else None

    def arguments(self) -> dict[str, str]:
        """Return the arguments of S3's calls that write an object."""
        arguments = {"ServerSideEncryption": self.method}
        if self.kms_key_id:
            arguments["SSEKMSKeyId"] = self.kms_key_id
        return arguments

    def options(self) -> str:
        """Return the options that ask for it."""
        return f"--sse {self.method}" + (f" --sse-kms-key-id {self.kms_key_id}" if self.kms_key_id else "")


def find_required(policy: Mapping[str, Any]) -> Encryption | None:
    """Return the encryption without which a bucket's policy denies what is written, or None.

    Args:
        policy: The parsed answer of ``GetBucketPolicy``.
    """
    method = kms_key = None
    for statement in as_list(policy.get("Statement")):
        actions = [str(action).lower() for action in as_list(statement.get("Action"))]
        if statement.get("Effect") != "Deny" or not any(action in _WRITING for action in actions):
            continue
        for operator, key, values in _conditions(statement):
            is_null, is_negated = operator.lower() == "null", "not" in operator.lower()
            if key == _KMS_KEY and (is_null or is_negated):
                method = method or "aws:kms"
                kms_key = kms_key or (values[0] if is_negated and values else None)
            if key == _METHOD_KEY and is_negated and values:
                method = values[0]
            if key == _METHOD_KEY and is_null:
                method = method or "aws:kms"
    return Encryption(method, kms_key) if method else None


def explain_denial(
    error: str, bucket: str, read_policy: Callable[[], Mapping[str, Any]], encryption: Encryption | None
) -> str:
    """Return the sentence about a denied write: the encryption that the bucket's policy demands, if it does.

    Args:
        error: AWS's own reason, as a sentence.
        bucket: The bucket's name.
        read_policy: Reads its policy, which is empty where it has none.
        encryption: What the write had asked for.
    """
    try:
        policy = read_policy()
    except PackageError:
        if encryption is not None:
            return f"{error}, or the bucket's policy demands another encryption than {encryption.options()}"
        return f"{error}, or the bucket's policy demands encryption: ask its owner, and add --sse aws:kms"
    required = find_required(policy)
    if required is None or required == encryption:
        return error
    key = f" and the key {required.kms_key_id}" if required.kms_key_id else ""
    return (
        f"the policy of the bucket {bucket!r} denies what is written without the header "
        f"x-amz-server-side-encryption: {required.method}{key}; add {required.options()}"
    )


def _conditions(statement: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    for operator, keys in (statement.get("Condition") or {}).items():
        for key, values in keys.items():
            yield operator, key.lower(), [str(value) for value in as_list(values)]
