"""Limits on the size of a request in characters and bytes, checked before time is spent on its tokens."""

from __future__ import annotations

from inf2kit.errors import RequestError
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Chat, GenerateRequest

#: JSON may write one character as six bytes.
_BYTES_PER_CHARACTER = 6
#: Bytes of a body beside its texts.
_OTHER_BYTES = 64 * 1024


def check_size(request: GenerateRequest, shapes: StaticShapes, longest_token: int) -> None:
    """Refuse texts that cannot fit a row, whatever their tokens are.

    Args:
        request: A validated body.
        shapes: Static shapes of the model.
        longest_token: Characters of the vocabulary's longest token.

    Raises:
        RequestError: 422 ``prompt_too_long``, or ``invalid_messages`` for more messages than tokens fit.
    """
    for prompt in request.prompts:
        if isinstance(prompt, Chat) and len(prompt.messages) > shapes.max_context_length:
            raise RequestError(
                422,
                "invalid_messages",
                f"'messages' has {len(prompt.messages):,} messages, and this model was compiled for prompts "
                f"of at most {shapes.max_context_length} tokens; send the last ones only",
            )
        if not truncates(request.parameters.truncate, shapes):
            characters = prompt.characters if isinstance(prompt, Chat) else len(prompt)
            check_characters(characters, shapes, longest_token)


def truncates(truncate: int | None, shapes: StaticShapes) -> bool:
    """Whether a prompt of any length fits once its last ``truncate`` tokens are taken."""
    return truncate is not None and truncate <= shapes.max_context_length


def check_characters(characters: int, shapes: StaticShapes, longest_token: int) -> None:
    """Refuse a text of more characters than the tokens of a row can have.

    Raises:
        RequestError: 422 ``prompt_too_long``.
    """
    if characters > shapes.max_context_length * longest_token:
        raise RequestError(
            422,
            "prompt_too_long",
            f"the prompt has {characters:,} characters, more than {shapes.max_context_length} tokens can "
            f"hold (sequence_length {shapes.sequence_length}): shorten it, send 'truncate', "
            "or deploy a preset with a longer sequence_length",
        )


def max_body_bytes(shapes: StaticShapes, max_prompts: int, longest_token: int) -> int:
    """Bytes of the longest body that the model can use.

    Args:
        shapes: Static shapes of the model.
        max_prompts: Most texts of one call.
        longest_token: Characters of the vocabulary's longest token.
    """
    characters = max_prompts * shapes.max_context_length * longest_token
    return characters * _BYTES_PER_CHARACTER + _OTHER_BYTES
