"""What SageMaker's runtime answers in the place of a result."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

_HEADER = "x-amzn-sagemaker-"
#: What a call may name of other kinds of endpoints, and how SageMaker refuses it here.
_OF_OTHER_KINDS = {
    "target-model": "is not a multi-model endpoint and does not support target model header.",
    "inference-component": "has no inference components; leave InferenceComponentName out.",
    "target-container-hostname": "has one container only; leave TargetContainerHostname out.",
}


class RefusedError(Exception):
    """What ``sagemaker-runtime`` answers in the place of a result.

    Args:
        status: HTTP status.
        kind: The error's name.
        message: A sentence.
        **fields: Beside the message in the answer's body.
    """

    def __init__(self, status: int, kind: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
        self.body = {"Message": message, **fields}


def check_targets(name: str, headers: Mapping[str, str], variant: str) -> None:
    """A call may name a variant of the endpoint, and nothing that only other kinds of endpoints have.

    Args:
        name: Of the endpoint.
        headers: Of the call, names in lower case.
        variant: That takes the call.

    Raises:
        RefusedError: it names another one.
    """
    for header, fault in _OF_OTHER_KINDS.items():
        if headers.get(_HEADER + header):
            raise RefusedError(400, "ValidationError", f"Endpoint {name} {fault}")
    wanted = headers.get(f"{_HEADER}target-variant", "")
    if wanted and wanted != variant:
        raise RefusedError(400, "ValidationError", f"Variant {wanted} not found in endpoint {name}.")


def model_error(response: httpx.Response) -> RefusedError:
    """The container has answered, and not with 200."""
    text = response.text
    return RefusedError(
        424,
        "ModelError",
        f'Received client error ({response.status_code}) from primary with message "{text}".'
        if response.status_code < 500
        else f'Received server error ({response.status_code}) from primary with message "{text}".',
        OriginalMessage=text,
        OriginalStatusCode=response.status_code,
    )


def timed_out() -> RefusedError:
    """The container has not answered in time."""
    return RefusedError(
        424,
        "ModelError",
        "Invocation timed out while waiting for a response from container primary.",
        OriginalMessage="",
        OriginalStatusCode=0,
    )


def unreachable(error: httpx.HTTPError) -> RefusedError:
    """The container has not answered at all."""
    message = (
        f"the container did not answer ({type(error).__name__}); it may be restarting: try again in a moment"
    )
    return RefusedError(503, "ServiceUnavailable", message)
