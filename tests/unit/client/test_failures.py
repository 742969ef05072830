"""Which kind of error a refusal is, read from botocore's response and from bare HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inf2kit.client.failures import Refusal, stream_error
from inf2kit.errors import (
    EndpointAccessError,
    EndpointBusyError,
    EndpointError,
    EndpointInterruptedError,
    EndpointRequestError,
    EndpointServerError,
    EndpointTimeoutError,
)

FULL = json.dumps({"error": "the queue is full", "error_type": "queue_full", "retry_after_s": 7})
OPENAI = json.dumps(
    {"error": {"message": "too long", "type": "invalid_request_error", "code": "prompt_too_long"}}
)
TIMED_OUT = (
    'Received server error (0) from primary with message "Your invocation timed out while waiting for a '
    'response from container primary. Review the latency metrics".'
)
ALLOTTED = "Your model primary did not complete sending the inference response in the allotted time."

#: Status, AWS's code, the body, and the kind, status and code of the error.
CASES: list[tuple[int, str, dict[str, Any], type[EndpointError], int | None, str | None]] = [
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 429, "OriginalMessage": FULL},
        EndpointBusyError,
        429,
        "queue_full",
    ),
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 503, "OriginalMessage": "x"},
        EndpointBusyError,
        503,
        "ModelError",
    ),
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 422, "OriginalMessage": OPENAI},
        EndpointRequestError,
        422,
        "prompt_too_long",
    ),
    (
        424,
        "ModelError",
        {"OriginalStatusCode": 500, "OriginalMessage": "[1]"},
        EndpointServerError,
        500,
        "ModelError",
    ),
    (
        424,
        "ModelError",
        {"Message": TIMED_OUT, "OriginalStatusCode": 0},
        EndpointTimeoutError,
        None,
        "ModelError",
    ),
    (
        424,
        "ModelError",
        {"Message": "x", "OriginalStatusCode": 0},
        EndpointInterruptedError,
        None,
        "ModelError",
    ),
    (400, "ThrottlingException", {"message": None}, EndpointBusyError, None, "ThrottlingException"),
    (400, "", {"message": None}, EndpointBusyError, None, "400"),
    (429, "ModelNotReadyException", {"Message": "m"}, EndpointBusyError, None, "ModelNotReadyException"),
    (503, "ServiceUnavailable", {"Message": "m"}, EndpointBusyError, None, "ServiceUnavailable"),
    (400, "ValidationError", {"Message": "m"}, EndpointRequestError, None, "ValidationError"),
    (403, "AccessDeniedException", {"Message": "m"}, EndpointAccessError, None, "AccessDeniedException"),
    (403, "ExpiredTokenException", {"Message": "m"}, EndpointAccessError, None, "ExpiredTokenException"),
    (500, "InternalFailure", {"Message": "m"}, EndpointServerError, None, "InternalFailure"),
    (302, "", {}, EndpointServerError, None, "302"),
]


@pytest.mark.parametrize(("status", "code", "body", "kind", "container_status", "container_code"), CASES)
def test_both_transports_read_a_refusal_alike(
    status: int,
    code: str,
    body: dict[str, Any],
    kind: type[EndpointError],
    container_status: int | None,
    container_code: str | None,
) -> None:
    headers = {"x-amzn-requestid": "id", **({"x-amzn-errortype": f"{code}:http://x/"} if code else {})}
    by_http = Refusal.from_http(status, headers, json.dumps(body).encode())
    by_botocore = Refusal.from_response(
        {
            "Error": {"Code": code or str(status), "Message": body.get("Message", body.get("message", ""))},
            "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "id"},
            **{key: value for key, value in body.items() if key.startswith("Original")},
        }
    )
    for refusal in (by_http, by_botocore):
        error = refusal.to_error("e")
        assert type(error) is kind
        assert (error.status, error.code, error.request_id) == (container_status, container_code, "id")
    assert str(by_http.to_error("e")) == str(by_botocore.to_error("e"))


def test_the_container_says_when_another_try_makes_sense() -> None:
    refusal = Refusal(424, "ModelError", "m", 429, FULL)
    assert refusal.to_error("e").retry_after_s == 7
    for odd in ("soon", True, -1, None, [1], 1e300):
        body = json.dumps({"error": "x", "error_type": "y", "retry_after_s": odd})
        assert Refusal(424, "ModelError", "m", 429, body).to_error("e").retry_after_s is None


@pytest.mark.parametrize("body", [b"<html>" + b"x" * 100_000, b"\xff\xfe", b"[]", b"", b'{"Message": 3}'])
def test_a_refusal_of_something_else_is_a_short_sentence(body: bytes) -> None:
    error = Refusal.from_http(502, {}, body).to_error("e")
    assert isinstance(error, EndpointServerError)
    assert len(str(error)) < 500


def test_a_stream_that_takes_too_long_timed_out() -> None:
    assert type(stream_error("e", "ModelInvocationTimeExceeded", "m", None)) is EndpointTimeoutError
    assert type(stream_error("e", "ModelStreamError", ALLOTTED, None)) is EndpointTimeoutError
    assert type(stream_error("e", "StreamBroken", "m", None)) is EndpointInterruptedError


@pytest.mark.parametrize(
    "sentence",
    [
        "Signature expired: 20261126T100000Z is now earlier than 20261126T102000Z (20261126T102500Z - 5 min)",
        "Signature not yet current: 20261126T110000Z is still later than 20261126T102500Z",
    ],
)
def test_a_wrong_clock_is_named(sentence: str) -> None:
    """AWS says so by the code of a wrong signature, for which logging in again is no help."""
    headers = {"x-amzn-errortype": "InvalidSignatureException"}
    error = Refusal.from_http(403, headers, json.dumps({"message": sentence}).encode()).to_error("e")
    assert type(error) is EndpointAccessError
    assert "set this machine's clock" in str(error)
    assert "log in" not in str(error)
