"""The wire format: requests are read in ``request``, answers are written in ``response``.

There are three schemas, and the body shows which one a request uses: that of Text Generation Inference on
SageMaker (``inputs`` and ``parameters``, server-sent events), and OpenAI's chat completions (``messages``)
and completions (``prompt``). docs/wire.md describes them.

This package ships inside the model package: standard library only.
"""

from inf2kit.serving.wire.body import decode_body
from inf2kit.serving.wire.chat import Chat
from inf2kit.serving.wire.generation import Generation, Token
from inf2kit.serving.wire.option import Form
from inf2kit.serving.wire.parameters import Parameters
from inf2kit.serving.wire.request import (
    GenerateRequest,
    check_form,
    drop_ignored_values,
    parse_request,
    request_form,
)
from inf2kit.serving.wire.response import AnswerOptions, ResponseWriter, encode_json, to_body
from inf2kit.serving.wire.writers import response_writer

__all__ = [
    "AnswerOptions",
    "Chat",
    "Form",
    "GenerateRequest",
    "Generation",
    "Parameters",
    "ResponseWriter",
    "Token",
    "check_form",
    "decode_body",
    "drop_ignored_values",
    "encode_json",
    "parse_request",
    "request_form",
    "response_writer",
    "to_body",
]
