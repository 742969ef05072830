"""The client of one endpoint, on this machine or on AWS."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from inf2kit import names
from inf2kit.client.account import Account, is_local
from inf2kit.client.errors import error_from_body, translate_errors
from inf2kit.client.generation import TextGenerator
from inf2kit.errors import EndpointError


class Endpoint(TextGenerator):
    """An endpoint by name.

    A local endpoint with that name is called if it is running, unless AWS is asked for: by a region, profile,
    session or client, or by AWS_PROFILE or AWS_ENDPOINT_URL in the environment. Otherwise AWS is called, with
    the region that every command takes (``inf2kit.aws``). ``repr`` shows where calls go. Threads may share an
    endpoint. Failed calls are never repeated, as a repeated call is a second generation.

    Args:
        name: The EndpointName.
        endpoint_url: The address to call; without it, the address is looked up.
        region_name: The AWS region, instead of the configured one.
        profile_name: A profile of the AWS configuration, such as that of another account.
        session: A ``boto3.session.Session`` with credentials and region of its own.
        client: A ``sagemaker-runtime`` client of one's own, which is used as it is.

    Raises:
        EndpointError: no endpoint can have this name, no region is configured for AWS, the profile does not
            exist, or arguments contradict each other.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
        client: Any = None,
    ) -> None:
        if not names.is_endpoint_name(name):
            raise EndpointError(
                f"{name!r} cannot be an endpoint's name, which has up to 63 letters and digits, with '-' "
                "between them; correct it"
            )
        self.name = name
        if client is not None:
            if endpoint_url or region_name or profile_name or session is not None:
                raise EndpointError(
                    "client has an address, a region and credentials of its own; leave out endpoint_url, "
                    "region_name, profile_name and session"
                )
            self._client = client
            return
        account = Account(region_name, profile_name, session)
        self._client = account.runtime_client(endpoint_url or account.local_url(name))

    def __repr__(self) -> str:
        """Return the name, and where calls go."""
        meta = self._client.meta
        where = f"at {meta.endpoint_url}" if is_local(meta.endpoint_url) else f"on AWS in {meta.region_name}"
        return f"<Endpoint {self.name!r} {where}>"

    @classmethod
    def from_preset(
        cls,
        preset: str,
        *,
        region_name: str | None = None,
        profile_name: str | None = None,
        session: Any = None,
        client: Any = None,
    ) -> Endpoint:
        """Return the endpoint that serves a preset: a local one, or the one that ``cdk deploy`` created.

        Args:
            preset: The preset's name, such as ``llama2-7b-throughput``, or the path of its file; for a stack
                with a stage, ``llama2-7b-throughput-dev``.
            region_name: The AWS region, instead of the configured one.
            profile_name: A profile of the AWS configuration, such as that of another account.
            session: A ``boto3.session.Session`` with credentials and region of its own.
            client: A ``sagemaker-runtime`` client that makes the calls. The endpoint is still looked up, with
                ``session`` or ``profile_name``, one of which must then be given.

        Raises:
            EndpointError: there is none, it is asynchronous, AWS cannot be called, or arguments contradict
                each other.
        """
        account = Account(region_name, profile_name, session)
        if client is not None and session is None and profile_name is None:
            raise EndpointError(
                "a client of sagemaker-runtime cannot look up which endpoint serves a preset; give its "
                "session too, or call Endpoint(name, client=client)"
            )
        local_name = names.endpoint_name(names.preset_name(preset))
        if url := account.local_url(local_name):
            return cls(local_name, endpoint_url=url)
        name = account.find_endpoint(preset)
        return cls(name, client=account.runtime_client(None) if client is None else client)

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


def _split_records(body: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the data of each server-sent event; parts may be cut anywhere."""
    received = b""
    for part in body:
        received += part["PayloadPart"]["Bytes"]
        *records, received = received.split(b"\n\n")
        for record in records:
            yield record.partition(b"data:")[2].strip()
