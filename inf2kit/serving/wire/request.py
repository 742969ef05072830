"""Reads a request: bytes to a validated, frozen value. Every refusal is a ``RequestError``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inf2kit.errors import RequestError, suggest
from inf2kit.serving.wire.parameters import (
    OPENAI_ALIASES,
    PARAMETER_NAMES,
    Parameters,
    parse_flag,
    parse_parameters,
    warn_of_ignored,
)

#: The body keys of each form. Any other key is named in a warning rather than refused, because real clients
#: send keys of their own.
_TGI_KEYS = ("inputs", "parameters", "stream")
_OPENAI_KEYS = ("messages", "model", "stream", "stream_options")
_ROLES = ("system", "developer", "user", "assistant", "tool")
#: Keys of a body that are compared with the known ones, for a suggestion.
_MAX_COMPARED_KEYS = 8
_SHOWN_ROLE = 40

#: The schemas of requests.
Form = Literal["tgi", "chat", "completion"]


@dataclass(frozen=True)
class Chat:
    """A conversation, which the model's chat template turns into a prompt.

    Attributes:
        messages: The turns, each with ``role`` and ``content``, and what else its sender gave for the
            template, such as ``tool_calls``.
        tools: Descriptions of tools, for the template.
        add_generation_prompt: Whether the prompt ends with the beginning of a new turn of the assistant.
        continue_final_message: Whether the answer continues the last message rather than begins a turn.
        template_options: Variables of the template itself, such as ``enable_thinking``.
    """

    messages: tuple[Mapping[str, object], ...]
    tools: tuple[Mapping[str, object], ...] = ()
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    template_options: Mapping[str, object] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        """Number of characters of all roles and contents."""
        return sum(
            len(text)
            for message in self.messages
            for text in (message["role"], message["content"])
            if isinstance(text, str)
        )


@dataclass(frozen=True)
class GenerateRequest:
    """One validated request.

    Attributes:
        form: The schema of the request, and so of its answer: ``tgi`` (``inputs``), ``chat`` (``messages``)
            or ``completion`` (``prompt``).
        prompts: What to continue.
        parameters: How to generate.
        stream: Whether to answer with server-sent events. This is the one decision about streaming.
        include_usage: Whether a streamed chat ends with a chunk of token counts.
        warnings: One sentence for each thing that was ignored.
    """

    form: Form
    prompts: tuple[str | Chat, ...] = ()
    parameters: Parameters = field(default_factory=Parameters)
    stream: bool = False
    include_usage: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def texts(self) -> int:
        """Number of texts to generate, each of which needs a row."""
        return len(self.prompts) * self.parameters.n


def decode_body(body: bytes | bytearray | str, content_type: str | None) -> object:
    """Parse the JSON of a request's body.

    Args:
        body: Bytes as received, or text where the model server has decoded them already.
        content_type: The Content-Type header, parameters such as ``; charset=utf-8`` included.

    Raises:
        RequestError: 415 for another content type or character set, 400 where the body is not JSON.
    """
    media_type, _, options = (content_type or "application/json").partition(";")
    if media_type.strip().lower() not in ("application/json", "application/jsonlines"):
        raise RequestError(
            415,
            "unsupported_content_type",
            f"the content type is {media_type.strip()!r}; send a JSON body as 'application/json'",
        )
    charset = ""
    for option in options.split(";"):
        name, _, value = option.strip().partition("=")
        charset = value.strip("\"' ").lower() if name.strip().lower() == "charset" else charset
    if charset not in ("", "utf-8", "utf8"):
        raise RequestError(
            415, "unsupported_content_type", f"the character set is {charset!r}; send the body in UTF-8"
        )
    if not isinstance(body, str):
        try:
            body = bytes(body).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(
                400, "invalid_utf8", f"the body is not valid UTF-8 at byte {error.start}; encode it as UTF-8"
            ) from None
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise RequestError(
            400,
            "invalid_json",
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            'send for example {"inputs": "My favorite place on earth is"}',
        ) from None
    except (ValueError, RecursionError) as error:
        # An integer of more than 4,300 digits, or nesting deeper than the parser's stack.
        raise RequestError(
            400, "invalid_json", f"the body cannot be read as JSON ({type(error).__name__}); send plain JSON"
        ) from None


def parse_request(payload: object, *, max_prompts: int) -> GenerateRequest:
    """Validate a decoded body.

    Args:
        payload: The result of ``decode_body``.
        max_prompts: Most prompts of one request: the endpoint's rows and its queue together.

    Raises:
        RequestError: 400 for a body of the wrong form, 422 for a wrong value.
    """
    if not isinstance(payload, dict):
        raise RequestError(
            400,
            "invalid_body",
            f"the body is a JSON {_json_type(payload)}, not an object; "
            'send {"inputs": "..."} or {"messages": [...]}',
        )
    if "inputs" in payload and "messages" in payload:
        raise RequestError(400, "invalid_body", "the body has both 'inputs' and 'messages'; send one of them")
    if "messages" in payload:
        return _parse_openai(payload)
    if "inputs" in payload:
        return _parse_tgi(payload, max_prompts)
    suggestions = [suggest(str(key), ("inputs", "messages")) for key in list(payload)[:_MAX_COMPARED_KEYS]]
    suggestion = next(filter(None, suggestions), "")
    raise RequestError(
        400, "missing_inputs", f"the body has neither 'inputs' nor 'messages'{suggestion}; send one of them"
    )


def drop_ignored_values(payload: Mapping[str, object], request: GenerateRequest) -> dict[str, object]:
    """Replace the values of ignored keys by true; their names stay, as the answer warns of them.

    Args:
        payload: A decoded body.
        request: The request that it was parsed to.
    """
    if request.form == "chat":
        (chat,) = request.prompts
        messages = [dict(message) for message in chat.messages] if isinstance(chat, Chat) else []
        known = (*_OPENAI_KEYS, *OPENAI_ALIASES, *PARAMETER_NAMES)
        # A null stays null: OpenAI's clients send it for a key that is not set, which needs no warning.
        slim = {key: value if key in known or value is None else True for key, value in payload.items()}
        return {**slim, "messages": messages}
    slim = {key: value if key in _TGI_KEYS else True for key, value in payload.items()}
    parameters = payload.get("parameters")
    if isinstance(parameters, dict):
        slim["parameters"] = {
            key: value if key in PARAMETER_NAMES else True for key, value in parameters.items()
        }
    return slim


def _too_many_inputs(prompts: int, max_prompts: int) -> RequestError:
    """Return the 422 for a list that is too long even for an idle endpoint."""
    return RequestError(
        422,
        "too_many_inputs",
        f"'inputs' has {prompts} texts; this endpoint takes at most {max_prompts} in one call "
        "(its rows and its queue together): send them in several calls",
    )


def _parse_tgi(payload: Mapping[str, object], max_prompts: int) -> GenerateRequest:
    inputs = payload["inputs"]
    is_list = isinstance(inputs, list)
    prompts = list(inputs) if isinstance(inputs, list) else [inputs]
    if not prompts:
        raise RequestError(422, "empty_inputs", "'inputs' is an empty list; send at least one text")
    if len(prompts) > max_prompts:
        raise _too_many_inputs(len(prompts), max_prompts)
    for index, prompt in enumerate(prompts):
        _check_text(prompt, f"inputs[{index}]" if is_list else "inputs")
    stream = parse_flag(payload, "stream")
    if stream and len(prompts) > 1:
        raise RequestError(
            422, "invalid_parameter", f"'stream' takes one text, 'inputs' has {len(prompts)}: one call each"
        )
    raw = payload.get("parameters")
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise RequestError(422, "invalid_parameter", f"'parameters' is a {_json_type(raw)}; send an object")
    parameters, parameter_warnings = parse_parameters(raw)
    key_warnings = warn_of_ignored(
        [key for key in payload if key not in _TGI_KEYS],
        lambda key: f"unknown key {key!r} beside 'inputs' was ignored; parameters belong in 'parameters'",
    )
    return GenerateRequest(
        form="tgi",
        prompts=tuple(str(prompt) for prompt in prompts),
        parameters=parameters,
        stream=stream,
        warnings=(*key_warnings, *parameter_warnings),
    )


def _parse_openai(payload: Mapping[str, object]) -> GenerateRequest:
    raw = payload["messages"]
    if not isinstance(raw, list) or not raw:
        raise RequestError(
            422, "invalid_messages", "'messages' must be a list of at least one {role, content} object"
        )
    messages = tuple(_parse_message(message, f"messages[{index}]") for index, message in enumerate(raw))
    options = payload.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    raw_parameters = {
        OPENAI_ALIASES.get(key, key): value
        for key, value in payload.items()
        # OpenAI's own clients send null for a key that is not set.
        if key not in _OPENAI_KEYS and value is not None
    }
    parameters, warnings = parse_parameters(raw_parameters, chat=True)
    return GenerateRequest(
        form="chat",
        prompts=(Chat(messages),),
        parameters=parameters,
        stream=parse_flag(payload, "stream"),
        include_usage=include_usage,
        warnings=tuple(warnings),
    )


def _parse_message(message: object, where: str) -> Mapping[str, str]:
    if not isinstance(message, dict):
        raise RequestError(
            422, "invalid_messages", f"{where} is a {_json_type(message)}; send {{role, content}} objects"
        )
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise RequestError(
            422, "invalid_messages", f"{where}.role is missing; use 'system', 'user' or 'assistant'"
        )
    if role not in _ROLES:
        raise RequestError(
            422,
            "invalid_messages",
            f"{where}.role is {role[:_SHOWN_ROLE]!r}; use {', '.join(map(repr, _ROLES))}",
        )
    if content is None and role == "assistant":
        content = ""  # the turn called a tool; OpenAI's clients send it back so
    if isinstance(content, list):
        parts = []
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text":
                raise RequestError(
                    422,
                    "invalid_messages",
                    f"{where}.content[{index}] is not a text part; this model reads text only",
                )
            parts.append(part.get("text"))
            _check_text(parts[-1], f"{where}.content[{index}].text", may_be_empty=True)
        content = "".join(str(part) for part in parts)
    _check_text(content, f"{where}.content", may_be_empty=True)
    return {"role": role, "content": str(content)}


def _check_text(text: object, where: str, *, may_be_empty: bool = False) -> None:
    if not isinstance(text, str):
        raise RequestError(422, "invalid_inputs", f"'{where}' is a JSON {_json_type(text)}, not a text")
    if not text and not may_be_empty:
        raise RequestError(422, "empty_inputs", f"'{where}' is an empty text; send at least one character")
    _check_encodable(text, where)


def _check_encodable(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            422,
            "invalid_unicode",
            f"'{where}' has a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
            "which is no text; send the whole pair or leave it out",
        ) from None


def _json_type(value: object) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
