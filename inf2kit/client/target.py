"""Which endpoint is called: by its name or by its preset, on this machine or on AWS."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inf2kit import aws, names
from inf2kit.client.account import Account, find_proxy, is_local
from inf2kit.client.boto_transport import BotoTransport
from inf2kit.client.local import REGION
from inf2kit.client.options import WHOLE_TIMEOUT_S
from inf2kit.client.published import PublishedEndpoint
from inf2kit.errors import CallTooLongError, EndpointError, EndpointRequestError

if TYPE_CHECKING:
    from inf2kit.client.bearer import BearerTokens
    from inf2kit.client.httpcore_transport import HttpcoreTransport

#: Connections that are kept, unless a batch needs more.
_CONNECTIONS = 64
#: Callers of a batch, for an endpoint whose rows are not known.
_CONCURRENCY = 8


class Target:
    """One endpoint, and the boto3 clients that call it. Threads may share it.

    Args:
        name: The EndpointName.
        account: Whose endpoint it is.
        url: The address to call, instead of AWS's.
        client: The caller's own client, whose timeouts and connections are used as they are.
        published: What its stack says of it, if it was looked up.
        is_local_endpoint: Whether it is one of ``inf2kit local up``, which belongs to no account.

    Attributes:
        is_local: Whether calls go to this machine.
    """

    def __init__(
        self,
        name: str,
        account: Account,
        url: str | None,
        client: Any,
        published: PublishedEndpoint | None = None,
        *,
        is_local_endpoint: bool = False,
    ) -> None:
        self.name, self._account, self.url, self.published = name, account, url, published
        self._given_client, self._is_local_endpoint = client, is_local_endpoint
        self._clients: dict[float, Any] = {}
        self._services: dict[str, Any] = {}
        self._connections = _CONNECTIONS
        self._lock, self._process = threading.Lock(), os.getpid()
        self.is_local = is_local(self.client.meta.endpoint_url)

    @classmethod
    def by_name(
        cls,
        name: str,
        endpoint_url: str | None,
        region_name: str | None,
        profile_name: str | None,
        session: Any,
        client: Any,
    ) -> Target:
        """Find an endpoint by its name; ``inf2kit.Endpoint`` describes the arguments.

        Raises:
            EndpointError: no endpoint can have this name, no region is configured for AWS, the profile does
                not exist, or arguments contradict each other.
        """
        if not names.is_endpoint_name(name):
            default = names.endpoint_name(name)
            hint = f"that preset's endpoint is {default!r}" if "." in name else "correct it"
            raise EndpointError(
                f"{name!r} cannot be an endpoint's name, which has up to 63 letters and digits, with '-' "
                f"between them; {hint}"
            )
        if client is not None:
            if endpoint_url or region_name or profile_name or session is not None:
                raise EndpointError(
                    "client has an address, a region and credentials of its own; leave out endpoint_url, "
                    "region_name, profile_name and session"
                )
            return cls(name, Account(None, None, None), None, client)
        if endpoint_url and not endpoint_url.startswith(("http://", "https://")):
            raise EndpointError(
                f"{endpoint_url!r} is no address such as http://127.0.0.1:8080; correct endpoint_url"
            )
        account = Account(region_name, profile_name, session)
        local_url = None if endpoint_url else account.local_url(name)
        return cls(name, account, endpoint_url or local_url, None, is_local_endpoint=local_url is not None)

    @classmethod
    def by_preset(
        cls, preset: str, region_name: str | None, profile_name: str | None, session: Any, client: Any
    ) -> Target:
        """Find the endpoint that serves a preset; ``Endpoint.from_preset`` describes the arguments.

        Raises:
            EndpointError: there is none, AWS cannot be called, or arguments contradict each other.
        """
        account = Account(region_name, profile_name, session)
        if client is not None and session is None and profile_name is None:
            raise EndpointError(
                "a client of sagemaker-runtime cannot look up which endpoint serves a preset; give its "
                "session too, or call Endpoint(name, client=client)"
            )
        local_name = names.endpoint_name(names.preset_name(preset))
        if url := account.local_url(local_name):
            return cls(local_name, account, url, None, is_local_endpoint=True)
        published = account.find_endpoint(preset)
        return cls(published.endpoint_name, account, None, client, published)

    @property
    def client(self) -> Any:
        """The ``sagemaker-runtime`` client: the caller's own, or one with the usual timeouts."""
        return self._given_client or self._client(WHOLE_TIMEOUT_S)

    def __str__(self) -> str:
        """Return the name, and where calls go."""
        meta = self.client.meta
        where = f"at {meta.endpoint_url}" if self.is_local else f"on AWS in {meta.region_name}"
        return f"{self.name!r} {where}"

    @property
    def concurrency(self) -> int:
        """How many calls it can work on at once: the rows of all engines of its instances."""
        if self.published is None or not self.published.batch_size:
            return _CONCURRENCY
        published = self.published
        return published.batch_size * max(published.engines, 1) * max(published.instances, 1)

    def check_kind(self) -> None:
        """Check that the endpoint answers calls itself.

        Raises:
            EndpointRequestError: it is asynchronous.
        """
        if self.published is not None and self.published.asynchronous:
            raise EndpointRequestError(
                f"endpoint {self.name!r} is asynchronous: call submit(prompt, ...), and wait for its result"
            )

    def service_client(self, service: str) -> Any:
        """Return a client of another service of AWS, with the same credentials.

        Raises:
            EndpointError: AWS cannot be called.
        """
        self._leave_to_the_parent()
        with self._lock:
            if service not in self._services:
                self._services[service] = self._account.service_client(service)
            return self._services[service]

    def check_length(
        self, prompt: str | Sequence[Any] | Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> CallTooLongError | None:
        """Return the error of a call whose whole answer would come too late, if that is known.

        Nothing is known of an endpoint on this machine: another model may stand in.

        Args:
            prompt: A text, a list of texts, the messages of a chat, or a request with parameters of its own.
            parameters: The call's parameters.

        Raises:
            EndpointRequestError: the endpoint is asynchronous.
        """
        self.check_kind()
        if self.is_local:
            return None
        # Not at the top, so that importing the client stays light.
        from inf2kit.client.batch import LENGTHS
        from inf2kit.client.preflight import find_speed, too_long
        from inf2kit.serving.wire.parameters import DEFAULT_MAX_NEW_TOKENS

        if isinstance(prompt, Mapping):
            nested = prompt.get("parameters") or {}
            if not isinstance(nested, Mapping):
                return None  # building the call refuses it
            own = {**prompt, **nested}
            if any(own.get(name) for name in LENGTHS):
                parameters = {}
            parameters = {**parameters, **own}
            prompt = prompt.get("inputs") or prompt.get("messages") or ""
        speed = find_speed(self.name, self.published)
        if speed is None or isinstance(prompt, bytes) or not isinstance(prompt, str | Sequence):
            return None
        rows = self.published.batch_size if self.published else 1
        parts = [prompt] if isinstance(prompt, str) else prompt
        default: int | None = DEFAULT_MAX_NEW_TOKENS
        if any(isinstance(part, Mapping) for part in parts):
            parts = ["".join(str(part.get("content", "")) for part in parts if isinstance(part, Mapping))]
            default = None
        texts = [part for part in parts if isinstance(part, str)]
        return too_long(self.name, speed, rows, texts, parameters, default)

    def transport(self, read_s: float) -> BotoTransport:
        """Return the transport whose reads wait for a number of seconds, which is rounded up.

        A client of boto3 has one such number, and connections of its own. Calls may have any deadline.
        """
        read_s = math.ceil(read_s) if read_s > 1 else math.ceil(read_s * 10) / 10
        if self._given_client is not None:
            own_s = getattr(self._given_client.meta.config, "read_timeout", read_s) or read_s
            return BotoTransport(self.name, self._given_client, own_s)
        return BotoTransport(self.name, self._client(read_s), read_s)

    def async_transport(self) -> HttpcoreTransport:
        """Return the transport for asyncio: the same address, credentials, proxy and certificates."""
        from inf2kit.client.httpcore_transport import HttpcoreTransport

        meta = self.client.meta
        return HttpcoreTransport(
            self.name,
            meta.endpoint_url,
            meta.region_name,
            functools.partial(self._account.load_credentials, self.url),
            # A proxy for the web knows no address of this machine.
            proxy=None if self.is_local else find_proxy(meta),
            ca_bundle=self._account.ca_bundle() if meta.endpoint_url.startswith("https:") else None,
        )

    def bearer_tokens(self, lifetime_s: int) -> BearerTokens:
        """Return the maker of tokens for SageMaker's route for OpenAI's clients.

        Args:
            lifetime_s: Seconds that a token is valid, at most 12 hours.

        Raises:
            EndpointError: the endpoint is asynchronous, its credentials are not known, or it is too long.
        """
        from inf2kit.client.bearer import BearerTokens

        self.check_kind()
        if self._given_client is not None:
            raise EndpointError(
                "a client of sagemaker-runtime does not tell its credentials, with which tokens are signed; "
                "call Endpoint(name, session=session) with the session that made it"
            )
        if self._is_local_endpoint:
            # Never the user's own credentials: it knows none but these.
            session = aws.local_session()
            return BearerTokens(self.name, REGION, session.get_credentials, lifetime_s)
        load_credentials = functools.partial(self._account.load_credentials, self.url)
        return BearerTokens(self.name, self.client.meta.region_name, load_credentials, lifetime_s)

    @property
    def openai_url(self) -> str:
        """The address that an OpenAI client calls, below which it has OpenAI's paths."""
        return f"{self.client.meta.endpoint_url.rstrip('/')}/endpoints/{self.name}/openai/v1"

    def keep_connections(self, count: int) -> None:
        """Keep at least this many connections for further calls."""
        with self._lock:
            if count > self._connections:
                self._connections = count
                self._clients.clear()

    def _leave_to_the_parent(self) -> None:
        """Make new clients after a fork: two processes on one connection would get each other's answers."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
            self._clients, self._services = {}, {}

    def _client(self, read_s: float) -> Any:
        self._leave_to_the_parent()
        with self._lock:
            if read_s not in self._clients:
                self._clients[read_s] = self._account.runtime_client(
                    self.name, self.url, read_timeout_s=read_s, connections=self._connections
                )
            return self._clients[read_s]
