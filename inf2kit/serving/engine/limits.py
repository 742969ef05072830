"""How large a request may be, told from its characters: before any of them is made a token of."""

from __future__ import annotations

from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import GenerateRequest


def check_size(request: GenerateRequest, shapes: StaticShapes, longest_token: int) -> None:
    """Refuse texts that cannot fit a row, whatever their tokens are.

    Args:
        request: A validated body.
        shapes: The static shapes.
        longest_token: Characters of the vocabulary's longest token.

    Raises:
        RequestError: 422 ``prompt_too_long``, or ``invalid_messages`` for more messages than tokens fit.
    """
    for prompt in request.prompts:
        shapes.check_characters(len(prompt), longest_token)
    messages = request.messages
    if len(messages) > shapes.max_context_length:
        raise RequestError(
            422,
            "invalid_messages",
            f"'messages' has {len(messages):,} messages, and this model was compiled for prompts of at most "
            f"{shapes.max_context_length} tokens; send the last ones only",
        )
    shapes.check_characters(
        sum(len(message["role"]) + len(message["content"]) for message in messages), longest_token
    )


def body_limit(shapes: StaticShapes, texts: int, longest_token: int) -> int:
    """Bytes that the longest possible body has: JSON may write one character as six bytes.

    Args:
        shapes: The static shapes.
        texts: Most texts of one call.
        longest_token: Characters of the vocabulary's longest token.
    """
    return texts * shapes.max_context_length * longest_token * 6 + 64 * 1024
