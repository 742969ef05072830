"""The model server's answers: which are errors that a worker has written, in either schema."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from inf2kit.serving.gateway.model_server import error_type


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, [{"generated_text": "error"}], None),
        (422, {"error": "bad", "error_type": "invalid_parameter"}, "invalid_parameter"),
        (422, {"error": {"message": "bad", "code": "invalid_parameter"}}, "invalid_parameter"),
        (503, {"error": {"message": "gone", "code": "unavailable"}}, "unavailable"),
        (500, {"code": 500, "type": "InternalServerException", "message": "Worker died."}, "model_server"),
        (400, {"code": 400, "type": "InternalServerException", "message": "error_type"}, "model_server"),
        (500, ["error"], "model_server"),
    ],
)
def test_the_code_of_an_error(status: int, body: Any, code: str | None) -> None:
    assert error_type(httpx.Response(status, json=body)) == code
