"""The hooks that SageMaker's Hugging Face toolkit calls in the container. Edit a copy of this file.

You may change what goes into the engine and what comes out of it:

- ``input_fn``: prepare a request, for example with a prompt template or default parameters.
- ``predict_fn``: change the generated texts; it has an example.
- ``output_fn``: write another format than JSON.

Leave as it is:

- The names of the hooks and their arguments: the toolkit calls them.
- ``model_fn``: it must return at once. The model is loaded by the engine, one process for the whole endpoint,
  while each of several workers runs this file. So load nothing large in any hook.

An error is passed from hook to hook as a ``RequestError``; return it unchanged, so that the caller gets its
status. The toolkit answers an exception with status 400.

Streams (``"stream": true``) do not pass through these hooks: the gateway serves them from the engine.

Ship your copy with ``inf2kit package SOURCE --preset PRESET --handler FILE``, and rehearse it first with
``inf2kit local up PRESET --handler FILE``.
"""

from __future__ import annotations

from typing import Any

from inf2kit.serving import worker


def model_fn(model_dir: str, context: Any = None) -> worker.Model:
    """Start the engine, without waiting for it."""
    return worker.model_fn(model_dir, context)


def input_fn(body: bytes | str | None, content_type: str, context: Any = None) -> object:
    """The JSON value of the request's body, a dict if the request is valid; or a ``RequestError``."""
    return worker.input_fn(body, content_type, context)


def predict_fn(data: object, model: worker.Model, context: Any = None) -> object:
    """The JSON value of the answer, or a ``RequestError``.

    For ``{"inputs": ...}`` the answer is a list with a dict for each text; for a chat it is a dict. To remove
    white space at the end of each text::

        prediction = worker.predict_fn(data, model, context)
        if isinstance(prediction, list):
            for generation in prediction:
                generation["generated_text"] = generation["generated_text"].rstrip()
        return prediction
    """
    return worker.predict_fn(data, model, context)


def output_fn(prediction: object, accept: str, context: Any = None) -> bytes:
    """The body of the response; for a ``RequestError`` also its status."""
    return worker.output_fn(prediction, accept, context)
