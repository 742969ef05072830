"""OpenAI's routes of an endpoint: those of its port, and SageMaker's with a bearer token.

The real client of OpenAI has an environment of its own; here plain HTTP shows what passes.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest

from inf2kit import AsyncEndpoint, Endpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller, read_metrics
from tests.helpers.servers import PATIENCE_S, wait_until

MESSAGES = [{"role": "user", "content": "Hi"}]
#: Rows and queue of the endpoint together.
PLACES = 12
ENDLESS = {"prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True}


def post(endpoint: EndpointState, **body: Any) -> httpx.Response:
    """Call SageMaker's route with a token, as OpenAI's client does."""
    arguments = Endpoint(endpoint.name).openai()
    return httpx.post(
        f"{arguments['base_url']}/chat/completions",
        headers={"authorization": f"Bearer {arguments['api_key']()}"},
        json={"messages": MESSAGES, "max_tokens": 8, **body},
        trust_env=False,
        timeout=PATIENCE_S,
    )


def post_directly(endpoint: EndpointState, path: str, body: object) -> httpx.Response:
    """Call a route of the container's port."""
    return httpx.post(f"{endpoint.gateway_url}{path}", json=body, trust_env=False, timeout=PATIENCE_S)


def without_ids(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from call to call."""
    return {key: value for key, value in body.items() if key not in ("id", "created")}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, whose last one is ``[DONE]``."""
    assert response.headers["content-type"] == "text/event-stream"
    *records, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(record.removeprefix("data: ")) for record in records]


@pytest.mark.parametrize("model", ["", "any/model", None])
def test_every_route_gives_the_answer_of_invocations(victim: EndpointState, model: str | None) -> None:
    body = {"messages": MESSAGES, "max_tokens": 8, "model": model}
    expected = without_ids(EndpointCaller(victim).invoke(body))
    assert expected["usage"]["completion_tokens"] == 8
    assert without_ids(post(victim, model=model).json()) == expected
    assert without_ids(post_directly(victim, "/v1/chat/completions", body).json()) == expected

    chunks = events(post(victim, model=model, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == expected["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == expected["usage"]
    options = {"include_usage": True, "continuous_usage_stats": True}
    usages = [
        chunk["usage"] for chunk in events(post(victim, model=model, stream=True, stream_options=options))
    ]
    assert usages[0] == {
        **expected["usage"],
        "completion_tokens": 0,
        "total_tokens": usages[0]["prompt_tokens"],
    }
    assert (usages[-2], usages[-1]) == (expected["usage"], expected["usage"])
    assert [usage["completion_tokens"] for usage in usages] == sorted(
        usage["completion_tokens"] for usage in usages
    )


def test_completions_give_the_answer_of_invocations(victim: EndpointState) -> None:
    body = {"prompt": "My favorite place on earth is", "max_tokens": 8}
    expected = without_ids(EndpointCaller(victim).invoke(body))
    assert without_ids(post_directly(victim, "/v1/completions", body).json()) == expected
    chunks = events(post_directly(victim, "/v1/completions", {**body, "stream": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected["choices"][0]["text"]


def test_asyncio_gets_a_token_too(victim: EndpointState) -> None:
    async def call() -> httpx.Response:
        async with AsyncEndpoint(victim.name) as endpoint, httpx.AsyncClient(trust_env=False) as client:
            arguments = endpoint.openai()
            return await client.post(
                f"{arguments['base_url']}/chat/completions",
                headers={"authorization": f"Bearer {await arguments['api_key']()}"},
                json={"messages": MESSAGES, "max_tokens": 2},
                timeout=PATIENCE_S,
            )

    assert asyncio.run(call()).json()["usage"]["completion_tokens"] == 2


def test_a_full_queue_is_429_and_leaving_makes_room(victim: EndpointState) -> None:
    with ExitStack() as stack:
        for _ in range(PLACES):
            connection = http.client.HTTPConnection("127.0.0.1", victim.gateway_port)
            connection.request("POST", "/v1/completions", json.dumps(ENDLESS))
            stack.enter_context(closing(connection))
        wait_until(lambda: read_metrics(victim)["inf2kit_texts_inside"] == PLACES, "every place is taken")
        refused = post_directly(victim, "/v1/completions", ENDLESS)
        error = refused.json()["error"]
        assert (refused.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "queue_full")
        assert int(refused.headers["retry-after"]) == error["retry_after_s"] >= 1
        quoted = post(victim)
        assert quoted.status_code == 400, "SageMaker's answer to a 4xx of the container"
        assert '(429) from AllTraffic with message "{"error"' in quoted.json()["error"]["message"]
    wait_until(lambda: _is_empty(victim), "the callers have left")


def test_leaving_sagemakers_stream_frees_its_row(victim: EndpointState) -> None:
    arguments = Endpoint(victim.name).openai()
    headers = {"authorization": f"Bearer {arguments['api_key']()}"}
    body = {"messages": MESSAGES, "max_tokens": 1500, "ignore_eos": True, "stream": True}
    path = f"{arguments['base_url']}/chat/completions"
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", path, headers=headers, json=body) as response,
    ):
        parts = response.iter_raw()  # kept, as a generator that is dropped closes its connection
        next(parts)
        wait_until(lambda: read_metrics(victim)["inf2kit_rows_busy"], "it has a row")
    wait_until(lambda: _is_empty(victim), "its row is free")


def test_the_deadline_gives_a_partial_answer(hurried: EndpointState) -> None:
    answer = post_directly(hurried, "/v1/completions", {**ENDLESS, "stream": False}).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert 10 < answer["usage"]["completion_tokens"] < 1500


def _is_empty(endpoint: EndpointState) -> bool:
    """Whether no text is inside: not at the gateway, and not in a row."""
    counted = read_metrics(endpoint)
    return counted["inf2kit_texts_inside"] == counted["inf2kit_rows_busy"] == 0
