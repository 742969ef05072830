"""Whose endpoint is called, and where: the session, the clients that are made with it, and the look-up."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from inf2kit import aws, names
from inf2kit.client.local import REGION, local_endpoint_url, running_local_endpoints
from inf2kit.client.options import CONNECT_TIMEOUT_S
from inf2kit.client.published import PublishedEndpoint
from inf2kit.errors import EndpointAccessError, EndpointError, suggest


class Account:
    """Whose endpoint is called: one session for every client of an endpoint.

    Args:
        region_name: The AWS region, instead of the session's.
        profile_name: A profile of the AWS configuration.
        session: The caller's own session.

    Raises:
        EndpointError: a session and a profile are given, or the profile does not exist.
    """

    def __init__(self, region_name: str | None, profile_name: str | None, session: Any) -> None:
        if session is not None and profile_name is not None:
            raise EndpointError("a session has a profile of its own; leave out profile_name")
        self._region_name = region_name
        self._is_default = region_name is None and profile_name is None and session is None
        self._profile_name = profile_name
        self._given_session = session

    @functools.cached_property
    def _session(self) -> Any:
        if self._given_session is not None:
            return self._given_session
        return aws.new_session(self._profile_name, self._region_name)

    def local_url(self, name: str) -> str | None:
        """Return the address of a local endpoint, or None if none is running or AWS is asked for."""
        variables = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
        if not self._is_default or any(os.environ.get(variable) for variable in variables):
            return None
        return local_endpoint_url(name)

    def runtime_client(
        self, endpoint: str, url: str | None, *, read_timeout_s: float, connections: int
    ) -> Any:
        """Make the client that calls the endpoint.

        Args:
            endpoint: Its name, for errors.
            url: The address to call, instead of AWS's.
            read_timeout_s: Seconds that may pass without a byte of an answer.
            connections: Number of connections that are kept for further calls.

        Raises:
            EndpointError: AWS cannot be called, or the address is not one.
        """
        options: dict[str, Any] = {}
        is_here = url is not None and is_local(url)
        if is_here:
            # A proxy for the web knows no address of this machine.
            options["proxies"] = {}
        with _translate_configuration_errors(endpoint):
            if not is_here:
                self.ca_bundle()
            return aws.client(
                "sagemaker-runtime",
                self._region_name,
                session=self._session_for_this_machine() if is_here else self._session,
                endpoint_url=url,
                retries={"total_max_attempts": 1},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                max_pool_connections=connections,
                # The few parameters are checked where they are built.
                parameter_validation=False,
                **options,
            )

    def service_client(self, service: str) -> Any:
        """Make a client of another service of AWS, such as ``s3``.

        Raises:
            EndpointError: AWS cannot be called.
        """
        with _translate_configuration_errors():
            return aws.client(service, self._region_name, session=self._session)

    def load_credentials(self, url: str | None) -> Any:
        """Return botocore's credentials for calls to an address, or None. They renew themselves."""
        session = self._session_for_this_machine() if url is not None and is_local(url) else self._session
        return aws.load_credentials(session)

    def ca_bundle(self) -> str | None:
        """Return the file of certificates that boto3 trusts instead of its own, or None.

        Raises:
            EndpointError: there is no such file.
        """
        bundle: str | None = self._session._session.get_config_variable("ca_bundle")
        bundle = bundle or os.environ.get("REQUESTS_CA_BUNDLE")
        if bundle and not Path(bundle).exists():
            raise EndpointError(
                f"there is no file {bundle}, which should have the certificates to trust; correct "
                "AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, or ca_bundle in the AWS configuration"
            )
        return bundle

    def _session_for_this_machine(self) -> Any:
        """A local endpoint checks no signature, but botocore wants credentials and a region for it."""
        has_credentials = self._profile_name or self._given_session or os.environ.get("AWS_ACCESS_KEY_ID")
        if has_credentials and (self._region_name or self._session.region_name):
            return self._session
        return aws.local_session(region_name=REGION)

    def find_endpoint(self, preset: str) -> PublishedEndpoint:
        """Return what the stack of a preset publishes for the callers of its endpoint.

        Raises:
            EndpointError: there is none, or AWS cannot be called.
        """
        from botocore.exceptions import ClientError

        name = names.preset_name(preset)
        parameter_name = names.parameter_name(name)
        with aws.translate_errors(EndpointError, f"looking for the endpoint of {preset!r}"):
            ssm = aws.client("ssm", self._region_name, session=self._session)
            try:
                value = ssm.get_parameter(Name=parameter_name)["Parameter"]["Value"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "ParameterNotFound":
                    raise
                option = "" if name == preset else f" -c preset={preset}"
                raise EndpointError(
                    f"no endpoint of the preset {preset!r} is deployed in {ssm.meta.region_name}; deploy it "
                    f"with 'cdk deploy {names.stack_name(name)}{option}', or start a local one with "
                    f"'inf2kit local up {preset}'"
                ) from None
        return PublishedEndpoint.from_json(parameter_name, value)


@contextmanager
def _translate_configuration_errors(endpoint: str = "") -> Iterator[None]:
    """Raise EndpointError where no client can be made for this configuration or address."""
    from botocore.exceptions import CredentialRetrievalError, NoRegionError

    doing = "calling an endpoint"
    try:
        with aws.translate_errors(EndpointError, doing):
            try:
                yield
            except NoRegionError:
                raise EndpointError(_no_region(endpoint)) from None
            except CredentialRetrievalError:
                with aws.translate_errors(EndpointAccessError, doing):
                    raise
    except ValueError as error:  # botocore's, for an address
        raise EndpointError(f"calling an endpoint failed: {error}; correct endpoint_url") from None


def _no_region(endpoint: str) -> str:
    """Say what is missing: a local endpoint of that name, or a region of AWS."""
    if not endpoint:
        return "calling AWS needs a region; set AWS_REGION, or give a region"
    running = running_local_endpoints()
    hint = suggest(endpoint, running) or (f" (running: {', '.join(running)});" if running else ";")
    return (
        f"no local endpoint {endpoint!r} is running{hint} start one with 'inf2kit local up "
        "smollm2-135m-local', or to call AWS, give a region or set AWS_REGION"
    )


def find_proxy(meta: Any) -> str | None:
    """Return the address of the proxy that a boto3 client calls by, or None.

    Args:
        meta: The client's ``meta``.
    """
    from botocore.httpsession import ProxyConfiguration
    from botocore.utils import get_environ_proxies

    proxies = meta.config.proxies
    if proxies is None:
        proxies = get_environ_proxies(meta.endpoint_url)
    proxy: str | None = ProxyConfiguration(proxies).proxy_url_for(meta.endpoint_url)
    return proxy


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    try:
        return urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return False
