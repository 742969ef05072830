"""The client of one endpoint, on this machine or on AWS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlparse

from inf2kit import aws, names
from inf2kit.client.errors import error_from_body, translate_errors
from inf2kit.client.generation import TextGenerator
from inf2kit.client.local import local_endpoint_url
from inf2kit.client.published import PublishedEndpoint
from inf2kit.errors import EndpointError

#: AWS answers a call within 60 s, and advises a socket timeout of 70 s.
READ_TIMEOUT_S = 70
_CONNECT_TIMEOUT_S = 5
_MAX_CONNECTIONS = 64


class Endpoint(TextGenerator):
    """An endpoint by name.

    A local endpoint with that name is called if it is running, unless AWS is asked for: by a region, a
    session, or AWS_PROFILE or AWS_ENDPOINT_URL in the environment. Otherwise AWS is called, with boto3's own
    credentials and region. ``repr`` shows where calls go. Failed calls are never repeated, as a repeated
    call is a second generation.

    Args:
        name: The EndpointName.
        endpoint_url: The address to call; without it, the address is looked up.
        region_name: The AWS region, instead of boto3's own.
        session: A ``boto3.session.Session``, instead of one from the environment.

    Raises:
        EndpointError: no region is configured for AWS.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        session: Any = None,
    ) -> None:
        self.name = name
        url = endpoint_url or _local_url(name, region_name, session)
        self._client = _runtime_client(url, region_name, session)

    def __repr__(self) -> str:
        """Return the name, and where calls go."""
        meta = self._client.meta
        where = f"at {meta.endpoint_url}" if _is_local(meta.endpoint_url) else f"on AWS in {meta.region_name}"
        return f"<Endpoint {self.name!r} {where}>"

    @classmethod
    def from_preset(cls, preset: str, *, region_name: str | None = None, session: Any = None) -> Endpoint:
        """Return the endpoint that serves a preset: a local one, or the one that ``cdk deploy`` created.

        Args:
            preset: The preset's name, such as ``llama2-7b-throughput``.
            region_name: The AWS region, instead of boto3's own.
            session: A ``boto3.session.Session``, instead of one from the environment.

        Raises:
            EndpointError: there is none, it is asynchronous, or AWS cannot be called.
        """
        local_name = names.endpoint_name(preset)
        if _local_url(local_name, region_name, session):
            return cls(local_name)
        deployment = _read_deployment(preset, region_name, session)
        if deployment.asynchronous:
            raise EndpointError(
                f"the endpoint {deployment.endpoint_name!r} is asynchronous: put a request under "
                f"{deployment.async_input} and call invoke_endpoint_async of boto3, with "
                f"InvocationTimeoutSeconds={deployment.async_invocation_timeout_s}"
            )
        return cls(deployment.endpoint_name, region_name=region_name, session=session)

    def stream_events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the decoded server-sent events of a streamed call as they come.

        Args:
            body: A whole request, in the schema of Text Generation Inference or of OpenAI, with ``stream``
                true.

        Raises:
            EndpointError: as for ``stream``.
        """
        with translate_errors(self.name):
            response = self._client.invoke_endpoint_with_response_stream(
                EndpointName=self.name, ContentType="application/json", Body=json.dumps(body)
            )
            try:
                for data in _split_records(response["Body"]):
                    if data == b"[DONE]":
                        return
                    event = json.loads(data)
                    if "error" in event:
                        raise error_from_body(self.name, event)
                    yield event
                    if event.get("generated_text") is not None:
                        return
            finally:
                # Ends the generation of a caller that stops early; without it, garbage collection would.
                response["Body"].close()
        raise EndpointError(f"endpoint {self.name!r} broke off before the end of the stream")

    def _answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        with translate_errors(self.name):
            response = self._client.invoke_endpoint(
                EndpointName=self.name, ContentType="application/json", Body=json.dumps(request)
            )
            answers: list[dict[str, Any]] = json.loads(response["Body"].read())
        return answers

    def _tokens(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for event in self.stream_events({**request, "stream": True}):
            yield event["token"]


def _local_url(name: str, region_name: str | None, session: Any) -> str | None:
    """Return the address of a local endpoint, or None if none is running or AWS is asked for."""
    variables = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    if region_name or session is not None or any(os.environ.get(variable) for variable in variables):
        return None
    return local_endpoint_url(name)


def _is_local(url: str) -> bool:
    return urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")


def _runtime_client(url: str | None, region_name: str | None, session: Any) -> Any:
    from botocore.exceptions import BotoCoreError

    if url is not None and _is_local(url):
        # An endpoint on this machine checks no signature, but botocore wants credentials and a region.
        if session is None and "AWS_ACCESS_KEY_ID" not in os.environ:
            session = aws.local_session()
        region_name = region_name or aws.configured_region(session) or "us-east-1"
    try:
        return aws.client(
            "sagemaker-runtime",
            region_name,
            session=session,
            endpoint_url=url,
            retries={"total_max_attempts": 1},
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=_MAX_CONNECTIONS,
        )
    except BotoCoreError as error:
        raise EndpointError(
            f"AWS cannot be called: {str(error).rstrip('.')}; configure boto3, or start a local endpoint "
            "with 'inf2kit local up smollm2-135m-local'"
        ) from None


def _read_deployment(preset: str, region_name: str | None, session: Any) -> PublishedEndpoint:
    """Read the parameter that the stack of a preset leaves for its callers."""
    from botocore.exceptions import ClientError

    with aws.translate_errors(EndpointError, f"looking for the endpoint of {preset!r}"):
        ssm = aws.client("ssm", region_name, session=session)
        try:
            parameter = names.parameter_name(preset)
            response = ssm.get_parameter(Name=parameter)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
            raise EndpointError(
                f"no endpoint of the preset {preset!r} is deployed in {ssm.meta.region_name}; deploy it with "
                f"'cdk deploy {names.stack_name(preset)}', or start a local one with "
                f"'inf2kit local up {preset}'"
            ) from None
    return PublishedEndpoint.from_json(parameter, response["Parameter"]["Value"])


def _split_records(body: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the data of each server-sent event; parts may be cut anywhere."""
    received = b""
    for part in body:
        received += part["PayloadPart"]["Bytes"]
        *records, received = received.split(b"\n\n")
        for record in records:
            yield record.partition(b"data:")[2].strip()
