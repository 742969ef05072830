"""Calling AWS: clients, and its errors as sentences."""

from __future__ import annotations

import os
from typing import Any

from inf2kit.errors import Inf2KitError

_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "AccessDenied": "your credentials do not allow it",
    "403": "your credentials do not allow it, or the bucket is somebody else's",
    "404": "it is not there; correct the name",
    "ExpiredToken": "log in again",
    "InvalidClientTokenId": "the credentials are not valid; log in again",
    "RequestTimeTooSkewed": "set this machine's clock",
}


def client(
    service: str,
    region_name: str | None = None,
    *,
    session: Any = None,
    endpoint_url: str | None = None,
    **config: Any,
) -> Any:
    """A boto3 client; the environment says where AWS is, and who calls.

    Args:
        service: Such as ``s3``.
        region_name: Instead of boto3's own.
        session: A ``boto3.session.Session`` that says who calls.
        endpoint_url: Instead of AWS's own.
        **config: Of botocore's ``Config``.
    """
    import boto3
    from botocore.config import Config

    # A session of its own: boto3's default one keeps the credentials of its first call for ever, and threads
    # must not share one while it makes clients.
    if session is None:
        session = boto3.session.Session()
        # As cdk and the other SDKs have it; boto3 alone knows AWS_DEFAULT_REGION only.
        region_name = region_name or os.environ.get("AWS_REGION")
    return session.client(
        service, region_name=region_name, endpoint_url=endpoint_url, config=Config(**config)
    )


class errors:  # noqa: N801 - reads as a phrase: with aws.errors(PackageError, "reading the bucket")
    """Turns botocore's exceptions into one sentence.

    Args:
        kind: The error to raise.
        doing: What was being done.
    """

    def __init__(self, kind: type[Inf2KitError], doing: str) -> None:
        self._kind = kind
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            return
        from boto3.exceptions import Boto3Error
        from botocore import exceptions

        if isinstance(error, exceptions.ClientError):
            code = str(error.response["Error"].get("Code", ""))
            said = error.response["Error"].get("Message") or code
            advice = _ADVICE.get(code, "see the message of AWS")
            raise self._kind(f"{self._doing} failed: {said} ({code}); {advice}") from None
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            raise self._kind(
                f"{self._doing} needs AWS credentials, and none were found; "
                "run 'aws configure', or set AWS_PROFILE"
            ) from None
        if isinstance(error, exceptions.NoRegionError):
            raise self._kind(f"{self._doing} needs a region; give --region, or set AWS_REGION") from None
        if isinstance(error, exceptions.BotoCoreError | Boto3Error):
            raise self._kind(f"{self._doing} failed: {str(error).rstrip('.')}; try again") from None
