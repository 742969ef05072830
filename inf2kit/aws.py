"""Calling AWS: the one place that makes boto3 clients, and that turns botocore's errors into sentences."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from inf2kit.errors import Inf2KitError

#: What to try, by the code of the error.
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "AccessDenied": "your credentials do not allow it",
    "403": "your credentials do not allow it, or the bucket belongs to another account",
    "404": "it does not exist; correct the name",
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
    """Make a boto3 client. Credentials, profile, region and endpoint default to boto3's own.

    Args:
        service: The service's name in boto3, such as ``s3``.
        region_name: The region to call, instead of the default one.
        session: A ``boto3.session.Session`` with its own credentials or profile.
        endpoint_url: The address to call, instead of the service's.
        **config: Options for ``botocore.config.Config``.

    Raises:
        botocore.exceptions.BotoCoreError: no region is configured, or the profile does not exist.
    """
    import boto3
    from botocore.config import Config

    # boto3's default session keeps the credentials of its first call for ever, and is not thread-safe.
    if session is None:
        session = boto3.session.Session()
        region_name = region_name or os.environ.get("AWS_REGION")
    return session.client(
        service, region_name=region_name, endpoint_url=endpoint_url, config=Config(**config)
    )


def local_session(access_key_id: str = "local", region_name: str | None = None) -> Any:
    """Make a boto3 session for services on this machine, which check the access key id but no signature."""
    import boto3

    return boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key="local",  # noqa: S106 - no secret: no signature is checked
        region_name=region_name,
    )


def configured_region(session: Any = None) -> str | None:
    """Return the region that ``client`` calls by default, or None if none is configured.

    ``AWS_REGION`` comes first, as in the CDK and the other SDKs; boto3 alone reads ``AWS_DEFAULT_REGION``.
    A session's own region counts before both.
    """
    import boto3

    if session is not None:
        return cast("str | None", session.region_name)
    return os.environ.get("AWS_REGION") or boto3.session.Session().region_name


def default_region() -> str:
    """Return the region that ``client`` calls by default.

    Raises:
        botocore.exceptions.NoRegionError: no region is configured.
    """
    from botocore.exceptions import NoRegionError

    region = configured_region()
    if region is None:
        raise NoRegionError
    return region


@functools.cache
def service_model(service: str) -> Any:
    """Return botocore's description of a service: its operations, and the shapes of their values."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def dns_suffix(region: str) -> str:
    """Return the domain of a region's partition, such as ``amazonaws.com.cn`` for ``cn-north-1``.

    Raises:
        botocore.exceptions.UnknownRegionError: botocore does not know the region.
    """
    import botocore.session
    from botocore.regions import EndpointResolver

    resolver = EndpointResolver(botocore.session.get_session().get_data("endpoints"))
    return str(resolver.get_partition_dns_suffix(resolver.get_partition_for_region(region)))


@contextmanager
def translate_errors(kind: type[Inf2KitError], doing: str) -> Iterator[None]:
    """Raise an error of inf2kit, with one sentence, in place of boto3's and botocore's exceptions.

        with aws.translate_errors(PackageError, "reading the bucket"):
            ...

    Args:
        kind: The error to raise.
        doing: What is being done; the sentence begins with it.
    """
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = str(error.response["Error"].get("Code", ""))
        message = error.response["Error"].get("Message") or code
        advice = _ADVICE.get(code, "see the message of AWS")
        raise kind(f"{doing} failed: {message} ({code}); {advice}") from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
        raise kind(
            f"{doing} needs AWS credentials, and none were found; run 'aws configure', or set AWS_PROFILE"
        ) from None
    except exceptions.NoRegionError:
        raise kind(f"{doing} needs a region; give --region, or set AWS_REGION") from None
    except (exceptions.BotoCoreError, Boto3Error) as error:
        raise kind(f"{doing} failed: {str(error).rstrip('.')}; try again") from None
