"""The writer of each schema."""

from __future__ import annotations

from inf2kit.serving.wire.openai_writer import ChatWriter, CompletionWriter
from inf2kit.serving.wire.option import Form
from inf2kit.serving.wire.response import AnswerOptions, ResponseWriter
from inf2kit.serving.wire.tgi_writer import TgiWriter

_WRITERS: dict[Form, type[ResponseWriter]] = {
    "tgi": TgiWriter,
    "chat": ChatWriter,
    "completion": CompletionWriter,
}


def response_writer(options: AnswerOptions) -> ResponseWriter:
    """Return a writer for the schema of an answer."""
    return _WRITERS[options.form](options)
