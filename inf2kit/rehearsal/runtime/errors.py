"""The errors of SageMaker's runtime API, in the wording of AWS."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

HEADER_PREFIX = "x-amzn-sagemaker-"
#: Headers that only other kinds of endpoints support, and how SageMaker refuses each.
_UNSUPPORTED_HEADERS = {
    "target-model": "is not a multi-model endpoint and does not support target model header.",
    "inference-component": "has no inference components; leave InferenceComponentName out.",
    "target-container-hostname": "has one container only; leave TargetContainerHostname out.",
}


class RuntimeAPIError(Exception):
    """An error response of the runtime API.

    Args:
        status: The HTTP status.
        kind: The error's name, such as ``ValidationError``.
        message: One sentence for the caller.
        **fields: More fields of the response's body.
    """

    def __init__(self, status: int, kind: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
        self.body = {"Message": message, **fields}


def validation_error(message: str) -> RuntimeAPIError:
    """The call itself is wrong."""
    return RuntimeAPIError(400, "ValidationError", message)


def model_error(response: httpx.Response) -> RuntimeAPIError:
    """The container answered with a status other than 200."""
    text, status = response.text, response.status_code
    side = "client" if status < 500 else "server"
    return RuntimeAPIError(
        424,
        "ModelError",
        f'Received {side} error ({status}) from primary with message "{text}".',
        OriginalMessage=text,
        OriginalStatusCode=status,
    )


def timeout_error() -> RuntimeAPIError:
    """The container did not answer in time."""
    return RuntimeAPIError(
        424,
        "ModelError",
        "Invocation timed out while waiting for a response from container primary.",
        OriginalMessage="",
        OriginalStatusCode=0,
    )


def unreachable_error(error: httpx.HTTPError) -> RuntimeAPIError:
    """The connection to the container failed."""
    message = (
        f"the container did not answer ({type(error).__name__}); it may be restarting: try again in a moment"
    )
    return RuntimeAPIError(503, "ServiceUnavailable", message)


def check_headers(endpoint: str, headers: Mapping[str, str], variant: str) -> None:
    """Check the headers that select a part of an endpoint: only its variant can be selected.

    Args:
        endpoint: The endpoint's name.
        headers: The call's headers, with names in lower case.
        variant: The variant that takes the call.

    Raises:
        RuntimeAPIError: a header selects something else.
    """
    for header, message in _UNSUPPORTED_HEADERS.items():
        if headers.get(HEADER_PREFIX + header):
            raise validation_error(f"Endpoint {endpoint} {message}")
    requested = headers.get(f"{HEADER_PREFIX}target-variant", "")
    if requested and requested != variant:
        raise validation_error(f"Variant {requested} not found in endpoint {endpoint}.")
