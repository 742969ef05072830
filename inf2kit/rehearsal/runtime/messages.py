"""What requests and responses of the runtime API have in common: the body's limit, and which headers pass."""

from __future__ import annotations

import uuid

import httpx

from inf2kit.rehearsal.runtime.containers import Target
from inf2kit.rehearsal.runtime.errors import HEADER_PREFIX, RuntimeAPIError, validation_error
from inf2kit.serving.asgi import DisconnectedError, Receive, body_parts

#: Bytes of a request body: the developer guide says "25 MB", of whose two meanings this is the smaller one.
#: botocore's model still has 6,291,456, and does not enforce it.
MAX_BODY = 25_000_000
ATTRIBUTES = f"{HEADER_PREFIX}custom-attributes"


def response_headers(target: Target, response: httpx.Response) -> dict[str, str]:
    """Return the only headers of a container that reach the caller, and those of the runtime."""
    passed = {
        name: response.headers[name] for name in ("content-type", ATTRIBUTES) if name in response.headers
    }
    if target.notice:
        passed.setdefault(ATTRIBUTES, target.notice)
    return {**passed, "x-amzn-invoked-production-variant": target.variant, **new_request_id()}


def new_request_id() -> dict[str, str]:
    """Return the header that every response of AWS has, and that users give to its support."""
    return {"x-amzn-requestid": str(uuid.uuid4())}


async def read_body(receive: Receive) -> bytes:
    """Read a request's body to its end.

    Raises:
        RuntimeAPIError: it is larger than AWS allows, or the connection closes before its end.
    """
    body = bytearray()
    is_too_large = False
    try:
        async for part in body_parts(receive):
            if not is_too_large:
                body += part
                # The rest is read and dropped: a client that still sends would not read the response.
                is_too_large = len(body) > MAX_BODY
    except DisconnectedError:
        raise validation_error("the connection was closed before the body's end") from None
    if is_too_large:
        raise RuntimeAPIError(
            413, "RequestEntityTooLargeException", f"the body is larger than {MAX_BODY:,} bytes, AWS's limit"
        )
    return bytes(body)
