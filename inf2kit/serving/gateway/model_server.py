"""The gateway's client of the model server, through which whole answers go: ``predict_fn`` is in the path."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping

import httpx

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.engine.protocol import ARRIVAL_HEADER, ENGINE_HEADER

_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_PASSED_BACK = ("content-type", "retry-after", _CUSTOM_ATTRIBUTES)


class ModelServerError(Exception):
    """The model server cannot answer a call, but the engine may still do so."""


class ModelServer:
    """The model server of this container.

    Args:
        address: ``unix:PATH`` or a URL.

    Attributes:
        silent: Whether it did not answer a call in time, and has answered none since.
    """

    def __init__(self, address: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=2.0)
        path = address.removeprefix("unix:")
        uds, url = (path, "http://model-server") if path != address else (None, address)
        transport = httpx.AsyncHTTPTransport(uds=uds, limits=limits, trust_env=False)
        # The deadline limits each call as a whole.
        self._client = httpx.AsyncClient(base_url=url, transport=transport, timeout=None)  # noqa: S113
        self.silent = False

    async def post(
        self, body: bytes, headers: Mapping[str, str], *, arrival: float, until: float, engine: int
    ) -> httpx.Response:
        """Pass a call on; the answer may be an error that a worker has written.

        Args:
            body: JSON.
            headers: Headers of the call; custom attributes are passed on.
            arrival: Monotonic time at which the call arrived at the gateway.
            until: Monotonic time at which the call is given up.
            engine: Number of the engine that the worker passes the call on to.

        Raises:
            ModelServerError: it is not there, or a worker ended in the middle of the call.
            RequestError: 503, it did not answer in time.
        """
        # With a character set the toolkit does not decode the body. It would answer bad UTF-8 with an error
        # that gives no reason.
        request_headers = {
            "content-type": "application/json; charset=utf-8",
            "accept": "application/json",
            ARRIVAL_HEADER: repr(arrival),
            ENGINE_HEADER: str(engine),
        }
        if _CUSTOM_ATTRIBUTES in headers:
            request_headers[_CUSTOM_ATTRIBUTES] = headers[_CUSTOM_ATTRIBUTES]
        posting = self._client.post("/invocations", content=body, headers=request_headers)
        try:
            response = await asyncio.wait_for(posting, max(until - time.monotonic(), 0.0))
        except asyncio.TimeoutError:
            self.silent = True
            raise unavailable("the model server did not answer in time; try again in a moment") from None
        except httpx.HTTPError as error:
            raise ModelServerError(f"it did not answer ({type(error).__name__})") from None
        if response.status_code >= 500 and _error_code(response) is None:
            # An error of the model server itself, as when a worker ends in the middle of a call.
            raise ModelServerError("a worker ended in the middle of a call")
        self.silent = False
        return response

    async def can_generate(self, within_s: float, engine: int) -> bool:
        """Whether two tokens (a prefill and a decode step) come through model server, worker and engine.

        Args:
            within_s: Seconds to wait for them.
            engine: Number of the engine.
        """
        probe = {"inputs": "ready", "parameters": {"max_new_tokens": 2, "ignore_eos": True}}
        now = time.monotonic()
        try:
            response = await self.post(
                json.dumps(probe).encode(), {}, arrival=now, until=now + within_s, engine=engine
            )
        except (ModelServerError, RequestError):
            return False
        return response.status_code == 200


def passed_back(response: httpx.Response) -> dict[str, str]:
    """The headers of an answer that the caller gets."""
    return {name: response.headers[name] for name in _PASSED_BACK if name in response.headers}


def error_type(response: httpx.Response) -> str | None:
    """The code of the error if the answer is one, else None."""
    if response.status_code < 400:
        return None
    return _error_code(response) or "model_server"


def _error_code(response: httpx.Response) -> str | None:
    """The code in an error that a worker has written, in either schema; None for any other answer."""
    try:
        body = response.json()
        error = body["error"]
        return str(error["code"] if isinstance(error, dict) else body["error_type"])
    except (ValueError, KeyError, TypeError):
        return None
