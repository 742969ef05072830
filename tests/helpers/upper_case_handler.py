"""A handler of a user's own: inf2kit's inference.py, with texts in upper case."""

from __future__ import annotations

import json
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.wire import decode_body
from inf2kit.serving.worker import EngineClient, set_error_status, start_engine


def model_fn(model_dir: str, context: Any = None) -> EngineClient:
    return start_engine(model_dir)


def input_fn(body: bytes | str | None, content_type: str, context: Any = None) -> object:
    try:
        return decode_body(body or b"", content_type)
    except RequestError as error:
        return error


def predict_fn(data: object, model: EngineClient, context: Any = None) -> object:
    if isinstance(data, RequestError):
        return data
    try:
        answer = model.generate(data, context)
    except RequestError as error:
        return error
    if isinstance(answer, list):
        for item in answer:
            item["generated_text"] = item["generated_text"].upper()
    return answer


def output_fn(prediction: object, accept: str, context: Any = None) -> bytes:
    if isinstance(prediction, RequestError):
        set_error_status(prediction, context)
        prediction = prediction.body()
    return json.dumps(prediction, ensure_ascii=False).encode()
