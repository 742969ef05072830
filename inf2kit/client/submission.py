"""Submitting an asynchronous call: its body inline, or in S3 where it is too large for that."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from inf2kit import aws
from inf2kit.client.batch import build_call
from inf2kit.client.boto_transport import translate_errors
from inf2kit.client.jobs import INVOCATION_TIMEOUT_S, TTL_S, Job, Ticket
from inf2kit.client.requests import Call, text_call
from inf2kit.client.target import Target
from inf2kit.errors import EndpointAccessError, EndpointRequestError

#: Bytes of a body that InvokeEndpointAsync takes itself.
MAX_INLINE = 128_000


def submit(
    target: Target, prompt: str | Sequence[str] | Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> Job:
    """Send an asynchronous call once, and return its job. ``Endpoint.submit`` describes the arguments.

    Raises:
        EndpointError: the endpoint is not asynchronous, refused the call, or cannot be reached.
    """
    is_texts = not isinstance(prompt, str) and any(isinstance(part, str) for part in prompt)
    call = text_call(prompt, parameters) if is_texts else build_call(prompt, parameters)  # type: ignore[arg-type]
    timeout_s = target.published.async_invocation_timeout_s if target.published else None
    options = {} if timeout_s is None else {"InvocationTimeoutSeconds": timeout_s}
    source = _upload(target, call) if len(call.body) > MAX_INLINE else {"Body": call.body}
    with translate_errors(target.name):
        response = target.client.invoke_endpoint_async(
            EndpointName=target.name, ContentType="application/json", **source, **options
        )
    ticket = Ticket(
        endpoint=target.name,
        output=response["OutputLocation"],
        failure=response.get("FailureLocation") or response["OutputLocation"] + ".failure",
        inference_id=response.get("InferenceId", ""),
        submitted_at=time.time(),
        longest_s=TTL_S + (timeout_s or INVOCATION_TIMEOUT_S),
        chat=call.chat,
        single=not is_texts,
    )
    return Job(ticket, target.service_client("s3"))


def _upload(target: Target, call: Call) -> dict[str, str]:
    """Put a body into S3, where the endpoint's stack allows it."""
    folder = target.published.async_input if target.published else None
    if folder is None:
        raise EndpointRequestError(
            f"the request has {len(call.body):,} bytes, more than the {MAX_INLINE:,} that a call may carry, "
            f"and it is not known where endpoint {target.name!r} reads requests; find it with "
            "Endpoint.from_preset, or send fewer texts at once"
        )
    uri = f"{folder}{uuid.uuid4()}.json"
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with aws.translate_errors(EndpointAccessError, f"writing {uri}"):
        target.service_client("s3").put_object(Bucket=bucket, Key=key, Body=call.body)
    return {"InputLocation": uri}
