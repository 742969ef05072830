"""The errors of SageMaker's runtime API, in the wording of AWS."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from inf2kit.rehearsal import validation

HEADER_PREFIX = "x-amzn-sagemaker-"
#: The account in messages about local endpoints, which are of none.
NO_ACCOUNT = "000000000000"
COMPONENT = "inference-component"
#: Parameters that only other kinds of endpoints take, and how SageMaker refuses each.
_UNSUPPORTED = {
    "target-model": "Endpoint {name} is not a multi-model endpoint and does not support target model header.",
    COMPONENT: (
        "Endpoint {name} has no inference components. Inference Component Name header is not allowed for "
        "endpoints to which you dont plan to deploy inference components. Please remove the Inference "
        "Component Name header and try again."
    ),
    "target-container-hostname": "Endpoint {name} has one container only; leave TargetContainerHostname out.",
    "enable-explanations": "Endpoint {name} has no explainer; leave EnableExplanations out.",
    "session-id": "Endpoint {name} has no stateful model, which would keep sessions; leave SessionId out.",
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


def refused_parameter(name: str, endpoint: str) -> RuntimeAPIError:
    """A parameter selects what an endpoint does not have."""
    return validation_error(_UNSUPPORTED[name].format(name=endpoint))


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


def check_parameters(operation: str, endpoint: str, headers: Mapping[str, str], variant: str) -> None:
    """Check a call's parameters, which are headers: their values, and what they select.

    Args:
        operation: ``InvokeEndpoint`` or ``InvokeEndpointWithResponseStream``.
        endpoint: The endpoint's name.
        headers: The call's headers, with names in lower case.
        variant: The variant that takes the call.

    Raises:
        RuntimeAPIError: a value is not allowed, or a parameter selects what the endpoint does not have.
    """
    faults = validation.find_header_faults("sagemaker-runtime", operation, headers)
    if faults:
        raise validation_error(faults)
    known = validation.header_names("sagemaker-runtime", operation)
    for name in _UNSUPPORTED:
        # SageMaker drops the headers that the operation does not have.
        if HEADER_PREFIX + name in known and HEADER_PREFIX + name in headers:
            raise refused_parameter(name, endpoint)
    requested = headers.get(f"{HEADER_PREFIX}target-variant", "")
    if requested and requested != variant:
        raise validation_error(f"Variant {requested} not found in endpoint {endpoint}.")
