"""The errors of calling an endpoint, each as an EndpointError with the container's own sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from inf2kit import aws
from inf2kit.errors import EndpointError


@contextmanager
def translate_errors(endpoint: str) -> Iterator[None]:
    """Raise EndpointError in place of the exceptions of a call to this endpoint."""
    from botocore.exceptions import (
        ClientError,
        ConnectionError,  # noqa: A004
        EventStreamError,
        HTTPClientError,
    )
    from urllib3.exceptions import HTTPError

    with aws.translate_errors(EndpointError, f"calling the endpoint {endpoint!r}"):
        try:
            yield
        # In the middle of a stream, botocore lets urllib3's own errors through.
        except (EventStreamError, HTTPError) as error:
            raise EndpointError(
                f"endpoint {endpoint!r} broke off: {error}", code="ModelStreamError"
            ) from None
        except ClientError as error:
            raise _from_response(endpoint, error.response) from None
        except (HTTPClientError, ConnectionError) as error:
            raise EndpointError(
                f"endpoint {endpoint!r} cannot be reached ({error}); is it up? "
                "'inf2kit local status' lists the local ones"
            ) from None


def error_from_body(endpoint: str, body: Mapping[str, Any], status: int | None = None) -> EndpointError:
    """Make the error of a container's JSON body, in the schema of Text Generation Inference or of OpenAI.

    Raises:
        KeyError, TypeError: the body has neither schema.
    """
    error = body["error"]
    fields = error if isinstance(error, dict) else {"message": error, "type": body.get("error_type")}
    return EndpointError(
        f"endpoint {endpoint!r} answered: {fields.get('message') or error}",
        status=status,
        code=fields.get("code") or fields.get("type"),
        retry_after_s=fields.get("retry_after_s", body.get("retry_after_s")),
    )


def _from_response(endpoint: str, response: Mapping[str, Any]) -> EndpointError:
    """Make the error of botocore's response: the container's own error if it carries one, else AWS's."""
    error, status = response.get("Error", {}), response.get("OriginalStatusCode")
    message = response.get("OriginalMessage") or error.get("Message", "")
    try:
        return error_from_body(endpoint, json.loads(message), status)
    except (ValueError, KeyError, TypeError):
        return EndpointError(
            f"endpoint {endpoint!r} answered: {message}", status=status, code=error.get("Code")
        )
