"""The four hooks that SageMaker's Hugging Face toolkit calls in the container. Edit this file for your model.

What you may change:

- ``input_fn``: pre-processing of a request, such as a prompt template or default parameters.
- ``predict_fn``: post-processing of the generated texts, see the example there.
- ``output_fn``: another format of the answer.

What must stay:

- The names of the hooks and their arguments: the toolkit calls them.
- ``model_fn`` returns at once. The model lives in the engine, one process for the whole endpoint, and each of
  several workers runs this file; so load no weights and do no other heavy work in it.
- An error is returned as a ``RequestError`` from hook to hook, and ``output_fn`` sets its status. The toolkit
  answers every exception with status 400.

Streams (``"stream": true``) do not pass through these hooks: the gateway serves them from the engine.

Ship your own copy with ``inf2kit package PRESET --handler FILE``.
"""

from __future__ import annotations

import json
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.wire import decode_body
from inf2kit.serving.worker import EngineClient, set_error_status, start_engine


def model_fn(model_dir: str, context: Any = None) -> EngineClient:
    """Start the engine, without waiting until it has loaded the model."""
    return start_engine(model_dir)


def input_fn(body: bytes | str | None, content_type: str, context: Any = None) -> object:
    """The JSON value of the request's body, or the error to answer with."""
    try:
        return decode_body(body or b"", content_type)
    except RequestError as error:
        return error


def predict_fn(data: object, model: EngineClient, context: Any = None) -> object:
    """The JSON value of the answer, or the error to answer with.

    To post-process the texts of ``{"inputs": ...}``, change the result of ``generate``, for example::

        answer = model.generate(data, context)
        if isinstance(answer, list):  # a list for "inputs"; a dict for a chat ("messages")
            for item in answer:
                item["generated_text"] = item["generated_text"].strip()
        return answer
    """
    if isinstance(data, RequestError):
        return data
    try:
        return model.generate(data, context)
    except RequestError as error:
        return error


def output_fn(prediction: object, accept: str, context: Any = None) -> bytes:
    """The body of the answer; an error also sets the status."""
    if isinstance(prediction, RequestError):
        set_error_status(prediction, context)
        prediction = prediction.body()
    return json.dumps(prediction, ensure_ascii=False).encode()
