"""Calling AWS: the one place that makes boto3 sessions and clients, and that makes sentences of their errors.

Every command takes the region from the first of these, as the CDK does: an explicit one, ``AWS_REGION``,
``AWS_DEFAULT_REGION``, the profile, the default profile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

from inf2kit.errors import Inf2KitError, suggest

#: What to try, by the code of the error.
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "AccessDenied": "your credentials do not allow it",
    "AccessDeniedException": "your credentials do not allow it",
    "403": "your credentials do not allow it, or the bucket belongs to another account",
    "404": "it does not exist; correct the name",
    "ExpiredToken": "log in again",
    "InvalidClientTokenId": "the credentials are not valid; log in again",
    "RequestTimeTooSkewed": "set this machine's clock",
}
#: The access key id of services on this machine, and its secret, which is none.
LOCAL_KEY = "local"
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+-\d+")
#: A boto3 session is not safe for threads; the clients that it makes are.
_MAKING_CLIENTS = threading.Lock()
_default_profile: str | None = None


@contextmanager
def default_profile(name: str | None) -> Iterator[None]:
    """Use a profile of the AWS configuration wherever no session is given, until the context ends."""
    global _default_profile
    before = _default_profile
    _default_profile = name or before
    try:
        yield
    finally:
        _default_profile = before


def new_session(profile_name: str | None = None, region_name: str | None = None) -> Any:
    """Make a boto3 session whose region is the one that every command takes, or None.

    Args:
        profile_name: A profile of the AWS configuration, instead of the default one.
        region_name: A region, instead of the default one.

    Raises:
        botocore.exceptions.BotoCoreError: the profile does not exist, or the configuration cannot be read.
    """
    import boto3
    import botocore.session

    core = botocore.session.Session(profile=profile_name or _default_profile)
    region = region_name or _environment_region() or _profile_region(core)
    core.set_config_variable("region", region)
    return boto3.session.Session(botocore_session=core)


def client(
    service: str,
    region_name: str | None = None,
    *,
    session: Any = None,
    endpoint_url: str | None = None,
    **config: Any,
) -> Any:
    """Make a boto3 client. Several threads may do so with one session.

    Args:
        service: The service's name in boto3, such as ``s3``.
        region_name: The region to call, instead of the session's.
        session: A ``boto3.session.Session``; by default a new one, since boto3's own keeps the credentials of
            its first call for ever.
        endpoint_url: The address to call, instead of the service's.
        **config: Options for ``botocore.config.Config``.

    Raises:
        botocore.exceptions.BotoCoreError: no region is configured, it is not a region's name, the profile
            does not exist, or its credentials cannot be loaded.
    """
    from botocore.config import Config

    if session is None:
        session = new_session()
    region = region_name or session.region_name or _environment_region()
    if region and endpoint_url is None:
        check_region(region)
    with _MAKING_CLIENTS, _credential_errors():
        service_client = session.client(
            service, region_name=region, endpoint_url=endpoint_url, config=Config(**config)
        )
    service_client.meta.events.register_first("before-sign", _renew_credentials)
    return service_client


def load_credentials(session: Any) -> Any:
    """Return botocore's credentials of a session, which renew themselves, or None.

    Raises:
        botocore.exceptions.BotoCoreError: they cannot be loaded.
    """
    with _credential_errors():
        return session.get_credentials()


def freeze(credentials: Any) -> Any:
    """Return botocore's credentials as they are now, renewed if they are about to expire.

    Raises:
        botocore.exceptions.BotoCoreError: they cannot be renewed.
    """
    with _credential_errors():
        return credentials.get_frozen_credentials()


def local_session(access_key_id: str = LOCAL_KEY, region_name: str | None = None) -> Any:
    """Make a boto3 session for services on this machine, which check the access key id but no signature."""
    import boto3

    return boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=LOCAL_KEY,
        region_name=region_name,
    )


def configured_region() -> str | None:
    """Return the region that ``client`` calls by default, or None if none is configured."""
    region: str | None = new_session().region_name
    return region


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


def check_region(name: str) -> None:
    """Check that a name has the form of a region's. A new region is not in boto3's own list.

    Raises:
        botocore.exceptions.UnknownRegionError: it has another form.
    """
    from botocore.exceptions import UnknownRegionError

    if not _REGION.fullmatch(name):
        raise UnknownRegionError(region_name=name, error_msg=suggest_region(name))


def suggest_region(name: str) -> str:
    """Return ``; did you mean 'x'?`` for the region with the closest name; empty for a region's own name."""
    return "" if name in _regions() else suggest(name, _regions())


@functools.cache
def service_model(service: str) -> Any:
    """Return botocore's description of a service: its operations, and the shapes of their values."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def partition(region: str) -> str:
    """Return the partition in a region's ARNs, such as ``aws-cn`` for ``cn-north-1``.

    A region that is newer than botocore belongs to the partition whose regions have names of that form.

    Raises:
        botocore.exceptions.UnknownRegionError: no partition has regions of such a name.
    """
    return str(_endpoint_resolver().get_partition_for_region(region))


def dns_suffix(region: str) -> str:
    """Return the domain of a region's partition, such as ``amazonaws.com.cn`` for ``cn-north-1``.

    Raises:
        botocore.exceptions.UnknownRegionError: no partition has regions of such a name.
    """
    return str(_endpoint_resolver().get_partition_dns_suffix(partition(region)))


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
    from botocore.parsers import ResponseParserError

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
    except (exceptions.UnknownRegionError, exceptions.InvalidRegionError) as error:
        region = error.kwargs["region_name"]
        raise kind(
            f"{doing} failed: {region!r} is not the name of a region{suggest_region(region) or ';'} "
            "correct --region, AWS_REGION or the profile"
        ) from None
    except exceptions.ProfileNotFound as error:
        raise kind(
            f"{doing} failed: there is no profile {error.kwargs['profile']!r} in your AWS configuration; "
            "'aws configure list-profiles' lists them"
        ) from None
    except exceptions.UnauthorizedSSOTokenError:
        raise kind(f"{doing} failed: the SSO login has expired; log in again with 'aws sso login'") from None
    except (exceptions.SSOError, exceptions.TokenRetrievalError) as error:
        raise kind(f"{doing} failed: {_phrase(error)}; log in again with 'aws sso login'") from None
    except exceptions.CredentialRetrievalError as error:
        raise kind(
            f"{doing} failed: {_phrase(error)}; log in again, or correct the credentials of your AWS profile"
        ) from None
    except exceptions.EndpointConnectionError as error:
        raise kind(f"{doing} failed: {_phrase(error)}; {_connection_advice(error)}") from None
    except ResponseParserError:
        raise kind(
            f"{doing} failed: the answer is not AWS's; is there a proxy or a login page between?"
        ) from None
    except (exceptions.BotoCoreError, Boto3Error) as error:
        raise kind(f"{doing} failed: {_phrase(error)}; try again") from None


@contextmanager
def _credential_errors() -> Iterator[None]:
    """Raise botocore's error of credentials in place of Python's, which a credential_process can cause."""
    from botocore.exceptions import CredentialRetrievalError

    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if type(error) is ValueError:  # botocore's, of a service's address
            raise
        is_json = isinstance(error, json.JSONDecodeError)
        message = "a credential_process printed no JSON" if is_json else str(error)
        raise CredentialRetrievalError(provider="your AWS configuration", error_msg=message) from None


def _renew_credentials(request: Any, request_signer: Any, **_: Any) -> None:
    """Let botocore sign with credentials that are renewed here; its own renewal raises any error."""
    credentials = getattr(request_signer, "_credentials", None)
    if hasattr(credentials, "refresh_needed"):
        from botocore.credentials import Credentials

        frozen = freeze(credentials)
        renewed = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        request.context.setdefault("signing", {})["request_credentials"] = renewed


def _environment_region() -> str | None:
    return next(filter(None, map(os.environ.get, _REGION_VARIABLES)), None)


def _profile_region(core: Any) -> str | None:
    """Return the region of a session's profile or, as the CDK does, of the default profile."""
    default = core.full_config.get("profiles", {}).get("default", {})
    region: str | None = core.get_scoped_config().get("region") or default.get("region")
    return region


@functools.cache
def _endpoints() -> Any:
    import botocore.session

    return botocore.session.get_session().get_data("endpoints")


def _endpoint_resolver() -> Any:
    from botocore.regions import EndpointResolver

    return EndpointResolver(_endpoints())


@functools.cache
def _regions() -> list[str]:
    """The names of all regions that boto3 knows, in alphabetical order."""
    names = {name for partition in _endpoints()["partitions"] for name in partition["regions"]}
    return sorted(filter(_REGION.fullmatch, names))


def _phrase(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _connection_advice(error: Any) -> str:
    """Say what to try: the name of a region that does not exist has no address."""
    host = ""
    with contextlib.suppress(ValueError):
        host = urlparse(str(error.kwargs.get("endpoint_url"))).hostname or ""
    for label in host.split("."):
        if _REGION.fullmatch(label) and label not in _regions():
            return f"boto3 knows no region {label!r}{suggest_region(label) or ';'} correct its name"
    return "try again"
