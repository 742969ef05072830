"""The hooks of a worker, without an engine: errors keep their status from hook to hook."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from inf2kit.errors import RequestError
from inf2kit.serving import worker
from inf2kit.serving.settings import Settings
from inf2kit.serving.shapes import StaticShapes


class Context:
    """The model server's context of a request."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers
        self.status: tuple[int, str] | None = None
        self.headers: dict[str, str] = {}

    def get_request_header(self, _: int, name: str) -> str | None:
        return self._headers.get(name.replace("-", "_"))

    def set_response_status(self, code: int, phrase: str, _: int) -> None:
        self.status = (code, phrase)

    def set_response_header(self, _: int, name: str, value: str) -> None:
        self.headers[name] = value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        model_dir=tmp_path,
        run_dir=tmp_path,
        backend="simulated",
        model_name="m",
        dtype="float32",
        shapes=StaticShapes.resolve(2, 32),
        queue_size=2,
        prefills_per_step=1,
        deadline_s=5.0,
        gateway_address=None,
        model_server_address="",
        model_server_workers=1,
        notice=None,
        stall_s=None,
        torch_threads=None,
        simulated={},
    )


def answer(body: bytes, model: worker.Model, context: Context) -> dict[str, Any]:
    data = worker.input_fn(body, "application/json", context)
    output = worker.output_fn(worker.predict_fn(data, model, context), "application/json", context)
    assert output.endswith(b"}\n"), "readers of lines wait for its end"
    return dict(json.loads(output))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", (400, "Bad Request"), "invalid_json"),
        (b"{}", (400, "Bad Request"), "missing_inputs"),
        (b'{"inputs": ""}', (422, "Unprocessable Entity"), "empty_inputs"),
        (b'{"inputs": "x", "stream": true}', (400, "Bad Request"), "no_stream"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "stream": true}',
            (400, "Bad Request"),
            "no_stream",
        ),
        (b'{"prompt": ""}', (422, "Unprocessable Entity"), "empty_inputs"),
        (b'{"messages": [], "top_p": 1}', (422, "Unprocessable Entity"), "invalid_messages"),
        (b'{"inputs": "x", "stream": "yes"}', (422, "Unprocessable Entity"), "invalid_parameter"),
        (b'{"inputs": "x", "stream": false}', (503, "Service Unavailable"), "unavailable"),
    ],
)
def test_an_error_keeps_its_status(
    body: bytes, status: tuple[int, str], code: str, settings: Settings
) -> None:
    context = Context()
    error = answer(body, worker.Model(settings), context)
    # In the schema of the request: OpenAI's for a chat and a completion, else Text Generation Inference's.
    is_openai = b"messages" in body or b"prompt" in body
    assert (error["error"]["code"] if is_openai else error["error_type"]) == code
    assert context.status == status


def test_a_model_that_cannot_be_loaded_is_unavailable_and_says_why() -> None:
    context = Context()
    error = answer(b'{"inputs": "x"}', worker.Model(None, "no weights"), context)
    assert "the model cannot be loaded: no weights" in error["error"]
    assert context.status == (503, "Service Unavailable")
    assert context.headers == {"retry-after": "1"}


def test_without_a_model_server_there_is_no_context() -> None:
    assert b"queue_full" in worker.output_fn(RequestError(429, "queue_full", "full"), "application/json")
    assert worker.output_fn([{"generated_text": "\u00e9"}], "") == '[{"generated_text": "é"}]\n'.encode()
    assert worker.output_fn(RequestError(429, "queue_full", "full"), "").endswith(b"}\n")


def test_the_gateway_alone_may_set_the_arrival(settings: Settings) -> None:
    context = Context(x_inf2kit_arrival="12.5")
    assert worker._arrival(context, settings) == pytest.approx(time.monotonic(), abs=1)
    with_gateway = dataclasses.replace(settings, gateway_address="127.0.0.1:8080")
    assert worker._arrival(context, with_gateway) == 12.5
    assert worker._arrival(None, with_gateway) == pytest.approx(time.monotonic(), abs=1)
