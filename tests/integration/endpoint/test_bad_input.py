"""Bad input, whole stack: each gets its status, its code and a sentence, and nothing breaks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from inf2kit import Endpoint
from inf2kit.errors import EndpointError
from inf2kit.rehearsal.local.state import EndpointState
from inf2kit.serving.gateway.bodies import MAX_BODY
from tests.helpers.local_endpoint import EndpointCaller, find_processes
from tests.helpers.servers import PATIENCE_S

JSON = "application/json"
X: dict[str, Any] = {"inputs": "x"}
USER = {"role": "user", "content": "x"}


def with_parameter(**parameters: object) -> dict[str, object]:
    return {"inputs": "x", "parameters": parameters}


CASES = [
    ("not json", "hello", JSON, 400, "invalid_json"),
    ("empty body", "", JSON, 400, "invalid_json"),
    ("raw control character", '{"inputs": "a\nb"}', JSON, 400, "invalid_json"),
    ("deep nesting", "[" * 100_000, JSON, 400, "invalid_json"),
    ("huge integer", '{"inputs": ' + "9" * 5000 + "}", JSON, 400, "invalid_json"),
    ("not an object", "[1]", JSON, 400, "invalid_body"),
    ("content type", json.dumps(X), "text/plain", 415, "unsupported_content_type"),
    ("multipart", json.dumps(X), "multipart/form-data; boundary=x", 415, "unsupported_content_type"),
    ("character set", json.dumps(X), "application/json; charset=latin-1", 415, "unsupported_content_type"),
    ("invalid utf-8", b'{"inputs": "\xff\xfe"}', JSON, 400, "invalid_utf8"),
    ("lone surrogate", '{"inputs": "a\\ud800"}', JSON, 422, "invalid_unicode"),
    ("no inputs", {"input": "x"}, JSON, 400, "missing_inputs"),
    ("both forms", {"inputs": "x", "messages": []}, JSON, 400, "invalid_body"),
    ("inputs empty", {"inputs": ""}, JSON, 422, "empty_inputs"),
    ("inputs empty list", {"inputs": []}, JSON, 422, "empty_inputs"),
    ("inputs not text", {"inputs": 5}, JSON, 422, "invalid_inputs"),
    ("inputs null", {"inputs": None}, JSON, 422, "invalid_inputs"),
    ("one of the inputs", {"inputs": ["a", {}]}, JSON, 422, "invalid_inputs"),
    ("list longer than the queue", {"inputs": ["x"] * 41}, JSON, 422, "too_many_inputs"),
    ("prompt too long", {"inputs": "word " * 3000}, JSON, 422, "prompt_too_long"),
    ("parameters not an object", {"inputs": "x", "parameters": 3}, JSON, 422, "invalid_parameter"),
    ("max_new_tokens 0", with_parameter(max_new_tokens=0), JSON, 422, "invalid_parameter"),
    ("max_new_tokens negative", with_parameter(max_new_tokens=-5), JSON, 422, "invalid_parameter"),
    ("max_new_tokens text", with_parameter(max_new_tokens="nine"), JSON, 422, "invalid_parameter"),
    ("temperature negative", with_parameter(temperature=-0.1), JSON, 422, "invalid_parameter"),
    ("temperature nan", with_parameter(temperature=float("nan")), JSON, 422, "invalid_parameter"),
    ("temperature inf", with_parameter(temperature=float("inf")), JSON, 422, "invalid_parameter"),
    ("top_p negative", with_parameter(top_p=-0.1), JSON, 422, "invalid_parameter"),
    ("top_p 2", with_parameter(top_p=2), JSON, 422, "invalid_parameter"),
    ("top_k -2", with_parameter(top_k=-2), JSON, 422, "invalid_parameter"),
    ("seed too large", with_parameter(seed=2**63), JSON, 422, "invalid_parameter"),
    ("two faults", with_parameter(top_k=-2, best_of=3), JSON, 422, "invalid_parameter"),
    ("beam search", with_parameter(num_beams=4), JSON, 422, "invalid_parameter"),
    ("two names that differ", with_parameter(max_tokens=4, max_new_tokens=5), JSON, 422, "invalid_parameter"),
    ("more texts than the queue", with_parameter(n=41), JSON, 422, "too_many_inputs"),
    (
        "records",
        json.dumps(X) + "\n" + json.dumps(X),
        "application/jsonlines",
        415,
        "unsupported_content_type",
    ),
    (
        "grammar",
        {"messages": [USER], "response_format": {"type": "json_object"}},
        JSON,
        422,
        "invalid_parameter",
    ),
    ("token ids", {"prompt": [1, 2]}, JSON, 422, "invalid_inputs"),
    ("repetition_penalty 0", with_parameter(repetition_penalty=0), JSON, 422, "invalid_parameter"),
    ("stop empty", with_parameter(stop=[""]), JSON, 422, "invalid_parameter"),
    ("do_sample text", with_parameter(do_sample="yes"), JSON, 422, "invalid_parameter"),
    ("stream of several", {"inputs": ["a", "b"], "stream": True}, JSON, 422, "invalid_parameter"),
    ("messages empty", {"messages": []}, JSON, 422, "invalid_messages"),
    ("message without role", {"messages": [{"content": "x"}]}, JSON, 422, "invalid_messages"),
    (
        "image",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        JSON,
        422,
        "invalid_messages",
    ),
]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_refused_with_status_code_and_sentence(
    caller: EndpointCaller, body: object, content_type: str, status: int, code: str
) -> None:
    with pytest.raises(ClientError) as refused:
        caller.invoke(body, content_type)
    response = refused.value.response
    assert (response["Error"]["Code"], response["OriginalStatusCode"]) == ("ModelError", status)
    answer = json.loads(response["OriginalMessage"])
    if isinstance(answer["error"], dict):
        assert isinstance(body, dict)
        assert body.keys() & {"messages", "prompt"}, "OpenAI's schema is for its requests"
        answer = {"error": answer["error"]["message"], "error_type": answer["error"]["code"]}
    assert answer["error_type"] == code
    assert len(answer["error"].split()) > 5, "a sentence, not a word"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps({"inputs": "x", "parameters": {"max_new_tokens": 1}}), "application/json; charset=utf-8"),
        (json.dumps({"inputs": "nul \u0000 bell \u0007", "parameters": {"max_new_tokens": 1}}), JSON),
        (with_parameter(max_new_tokens=2, temperature=1e-300, seed=1), JSON),
        (with_parameter(max_new_tokens=2, temperature=1e300, top_k=10**30, top_p=1e-300), JSON),
        (with_parameter(max_new_tokens=2, temperature=1e300, top_p=0.9, min_new_tokens=1), JSON),
        (with_parameter(max_new_tokens=2, min_new_tokens=10**30, repetition_penalty=100), JSON),
        (with_parameter(max_new_tokens=2, temperature=None, top_k=None, stop=None, seed=None), JSON),
        (with_parameter(max_new_tokens=2, temperature=0, top_p=0, top_k=-1, seed=-1), JSON),
        (with_parameter(max_new_tokens=2, temperature=1, seed=-(2**63)), JSON),
        (with_parameter(max_new_tokens=2, temperature=1, seed=2**63 - 1, n=2), JSON),
        (with_parameter(max_new_tokens="2", do_sample="False", temperature="0.7"), JSON),
        (json.dumps(with_parameter(max_new_tokens=1)) + "\n", "application/jsonlines"),
    ],
)
def test_unusual_but_fine(caller: EndpointCaller, body: object, content_type: str) -> None:
    assert caller.invoke(body, content_type)


def body_of(size: int, *, stream: bool = False) -> bytes:
    """A call of so many bytes. What writes its letters in ASCII on the way makes six bytes of two."""
    call = {"inputs": "", "parameters": {"max_new_tokens": 2, "truncate": 8}, "stream": stream}
    letters, spaces = divmod(size - len(json.dumps(call)), 2)
    return json.dumps({**call, "inputs": " " * spaces + "\u0436" * letters}, ensure_ascii=False).encode()


@pytest.mark.parametrize("stream", [False, True])
def test_sagemaker_passes_on_25_megabytes(caller: EndpointCaller, stream: bool) -> None:
    client = caller.client
    operation = client.invoke_endpoint_with_response_stream if stream else client.invoke_endpoint

    def call(size: int) -> bytes:
        body = body_of(size, stream=stream)
        assert len(body) == size
        response = operation(EndpointName=caller.name, ContentType=JSON, Body=body)
        return b"".join(part["PayloadPart"]["Bytes"] if stream else part for part in response["Body"])

    assert b"generated_text" in call(25_000_000)
    with pytest.raises(ClientError) as refused:
        call(25_000_001)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_container_takes_a_little_more_than_sagemaker_passes_on(served: EndpointState) -> None:
    """Gateway, model server, worker and engine all do, in case SageMaker means 25 MiB."""

    def post(size: int) -> httpx.Response:
        url = f"http://127.0.0.1:{served.gateway_port}/invocations"
        return httpx.post(url, content=body_of(size), headers={"content-type": JSON}, timeout=PATIENCE_S)

    assert post(MAX_BODY).json()[0]["generated_text"]
    refused = post(MAX_BODY + 1)
    assert (refused.status_code, refused.json()["error_type"]) == (413, "body_too_large")


def test_six_megabytes_of_text(caller: EndpointCaller) -> None:
    with pytest.raises(ClientError) as refused:
        caller.invoke(json.dumps({"inputs": "word " * 1_200_000}))
    assert "prompt_too_long" in refused.value.response["OriginalMessage"]


def test_a_refused_stream_has_a_status_of_its_own(served: EndpointState) -> None:
    with pytest.raises(EndpointError, match="'top_p' is 2") as refused:
        list(Endpoint(served.name).stream("x", top_p=2))
    assert (refused.value.status, refused.value.code) == (422, "invalid_parameter")


def test_an_unknown_endpoint(served: EndpointState) -> None:
    with pytest.raises(EndpointError, match="not found"):
        Endpoint("nobody", endpoint_url=served.url).generate("x")


def test_no_worker_was_lost(served: EndpointState, caller: EndpointCaller) -> None:
    """After all of the above the same workers answer."""
    log = (find_processes(served, "model_service_worker"), caller.generate("x", max_new_tokens=1))
    assert len(log[0]) == 11  # ten workers, and the one they are forked from
    assert log[1]
