"""From a body's JSON value to a validated, frozen request. Every refusal is a ``RequestError``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

from inf2kit.errors import RequestError, suggest
from inf2kit.serving.wire.chat import Chat, check_encodable, read_messages, slim_messages
from inf2kit.serving.wire.faults import Faults
from inf2kit.serving.wire.option import Form, StreamUsage
from inf2kit.serving.wire.options import TABLES
from inf2kit.serving.wire.parameters import (
    Parameters,
    Reading,
    build_parameters,
    read_options,
    warn_of_unknown,
)
from inf2kit.serving.wire.values import json_type

#: The key of each form that has what to continue.
_PROMPT_KEYS: dict[str, Form] = {"inputs": "tgi", "messages": "chat", "prompt": "completion"}
_OWN_KEYS = frozenset((*_PROMPT_KEYS, "parameters"))
#: Options of a chat, and the values with which they ask for nothing.
_OF_CHATS = {
    "tools": (),
    "template_options": {},
    "continue_final_message": False,
    "add_generation_prompt": True,
}
#: Keys of a body that are compared with these, for a suggestion.
_MAX_COMPARED_KEYS = 8


@dataclass(frozen=True)
class GenerateRequest:
    """One validated request.

    Attributes:
        form: The schema of the request, and so of its answer: ``tgi`` (``inputs``), ``chat`` (``messages``)
            or ``completion`` (``prompt``).
        prompts: What to continue.
        parameters: How to generate.
        stream: Whether to answer with server-sent events. This is the one decision about streaming.
        usage: Which chunks of a stream in OpenAI's schema have token counts.
        warnings: One sentence for each thing that was ignored.
    """

    form: Form
    prompts: tuple[str | Chat, ...] = ()
    parameters: Parameters = field(default_factory=Parameters)
    stream: bool = False
    usage: StreamUsage = "none"
    warnings: tuple[str, ...] = ()

    @property
    def texts(self) -> int:
        """Number of texts to generate, each of which needs a row."""
        return len(self.prompts) * self.parameters.n


def request_form(payload: object) -> Form | None:
    """Return the schema of a decoded body, in which an error is answered; None if it has none or several."""
    if not isinstance(payload, dict):
        return None
    keys = [key for key in _PROMPT_KEYS if key in payload]
    if len(keys) > 1:
        keys = [key for key in keys if payload[key] is not None]
    return _PROMPT_KEYS[keys[0]] if len(keys) == 1 else None


def check_form(payload: object, form: Form) -> None:
    """Check that a body has the schema of the route that it came by.

    Args:
        payload: The result of ``decode_body``.
        form: The schema of the route.

    Raises:
        RequestError: 400, it has another schema, or none.
    """
    key = next(key for key in _PROMPT_KEYS if _PROMPT_KEYS[key] == form)
    if not isinstance(payload, dict):
        raise RequestError(400, "invalid_body", f"the body is a JSON {json_type(payload)}, not an object")
    others = [f"'{other}'" for other in _PROMPT_KEYS if other != key and payload.get(other) is not None]
    if others:
        raise RequestError(
            400,
            "invalid_body",
            f"the body has {' and '.join(others)}, and this route takes '{key}' alone; leave the rest out, "
            "or call the route that takes it",
            param=others[0].strip("'"),
        )
    if key not in payload:
        raise RequestError(
            400, "missing_inputs", f"the body has no '{key}', which this route continues; send it", param=key
        )


def parse_request(payload: object, *, max_prompts: int) -> GenerateRequest:
    """Validate a decoded body.

    Args:
        payload: The result of ``decode_body``.
        max_prompts: Most texts of one request: the endpoint's rows and its queue together.

    Raises:
        RequestError: 400 for a body of the wrong form, 422 for wrong values, all of which it names.
    """
    form = request_form(payload)
    if form is None or not isinstance(payload, dict):
        raise _no_form(payload)
    faults = Faults()
    nested = payload.get("parameters")
    if nested is not None and not isinstance(nested, dict):
        faults.add(f"'parameters' is a JSON {json_type(nested)}; send an object", param="parameters")
        nested = None
    pairs = [(key, value) for key, value in payload.items() if key not in _OWN_KEYS]
    reading = read_options(chain(nested.items(), pairs) if nested else pairs, form, faults)
    prompts = _read_prompts(payload, form, max_prompts, reading, faults)
    parameters = build_parameters(reading, form, faults)
    request = GenerateRequest(
        form=form,
        prompts=prompts,
        parameters=parameters,
        stream=bool(reading.values.get("stream")),
        usage=cast("StreamUsage", reading.values.get("usage", "none")),
        warnings=tuple(reading.warnings),
    )
    _check_together(request, max_prompts, faults)
    faults.raise_all()
    return request


def drop_ignored_values(payload: Mapping[str, Any], request: GenerateRequest) -> dict[str, object]:
    """Replace the values of ignored keys by true; their names stay, as the answer warns of them.

    Args:
        payload: A decoded body.
        request: The request that it was parsed to.
    """
    slim = _drop_values(payload, request.form)
    if isinstance(payload.get("parameters"), dict):
        slim["parameters"] = _drop_values(payload["parameters"], request.form)
    for key in _PROMPT_KEYS:
        if key in payload:
            slim[key] = payload[key]
    key = "messages" if request.form == "chat" else "inputs"
    if any(isinstance(prompt, Chat) for prompt in request.prompts):
        is_one = isinstance(payload[key][0], dict)
        slim[key] = slim_messages(payload[key]) if is_one else [_slim_input(each) for each in payload[key]]
    return slim


def _drop_values(values: Mapping[str, object], form: Form) -> dict[str, object]:
    # A null stays null: OpenAI's clients send it for a key that is not set, which needs no warning.
    table = TABLES[form]
    return {key: value if value is None or table.get(key) else True for key, value in values.items()}


def _slim_input(value: Any) -> object:
    return slim_messages(value) if isinstance(value, list) else value


def _no_form(payload: object) -> RequestError:
    """Return the 400 for a body of no form, or of several."""
    if not isinstance(payload, dict):
        return RequestError(
            400,
            "invalid_body",
            f"the body is a JSON {json_type(payload)}, not an object; "
            'send {"inputs": "..."} or {"messages": [...]}',
        )
    present = [f"'{key}'" for key in _PROMPT_KEYS if key in payload]
    if present:
        return RequestError(400, "invalid_body", f"the body has {' and '.join(present)}; send one of them")
    keys = [str(key) for key in list(payload)[:_MAX_COMPARED_KEYS]]
    suggestion = next(filter(None, (suggest(key, _PROMPT_KEYS) for key in keys)), "")
    return RequestError(
        400,
        "missing_inputs",
        f"the body has none of 'inputs', 'messages' and 'prompt'; send one of them{suggestion}",
    )


def _read_prompts(
    payload: Mapping[str, object], form: Form, max_prompts: int, reading: Reading, faults: Faults
) -> tuple[str | Chat, ...]:
    """Return what to continue."""
    unknown: list[str] = []
    if form == "chat":
        prompts: list[str | Chat] = [_read_chat(payload["messages"], "messages", reading, faults, unknown)]
    else:
        key = "inputs" if form == "tgi" else "prompt"
        prompts = _read_list(payload[key], key, max_prompts, reading, faults, unknown)
    if unknown:
        reading.warnings += warn_of_unknown(unknown)
    if form == "tgi" and any(isinstance(prompt, str) for prompt in prompts):
        for name, idle in _OF_CHATS.items():
            if reading.values.get(name, idle) != idle:
                key = reading.keys[name]
                faults.add(
                    f"'{key}' is for chats; send {{role, content}} objects, or leave it out", param=key
                )
    elif reading.values.get("tools"):
        reading.warnings.append("tools: calls in the answer are not parsed, they are part of its text")
    return tuple(prompts)


def _read_list(
    raw: object, key: str, max_prompts: int, reading: Reading, faults: Faults, unknown: list[str]
) -> list[str | Chat]:
    """Return the prompts of ``inputs`` or ``prompt``: a text, a chat of ``inputs``, or a list of them."""
    if not isinstance(raw, list):
        return [_read_text(raw, key, faults)]
    if not raw:
        faults.add(f"'{key}' is an empty list; send at least one text", code="empty_inputs", param=key)
        return []
    takes_chats = key == "inputs"
    if takes_chats and isinstance(raw[0], dict):
        return [_read_chat(raw, key, reading, faults, unknown)]
    if len(raw) > max_prompts:
        faults.add(_too_many(f"'{key}' has {len(raw)} texts", max_prompts), code="too_many_inputs", param=key)
        return []
    if not takes_chats and isinstance(raw[0], int | list):
        faults.add(f"'{key}' has token ids; send texts", code="invalid_inputs", param=key)
        return []
    return [
        _read_chat(each, f"{key}[{index}]", reading, faults, unknown)
        if takes_chats and isinstance(each, list)
        else _read_text(each, f"{key}[{index}]", faults)
        for index, each in enumerate(raw)
    ]


def _read_text(text: object, where: str, faults: Faults) -> str:
    if not isinstance(text, str):
        faults.add(
            f"'{where}' is a JSON {json_type(text)}, not a text; for a chat send a list of "
            "{role, content} objects",
            code="invalid_inputs",
            param=where,
        )
        return ""
    if not text:
        faults.add(
            f"'{where}' is an empty text; send at least one character", code="empty_inputs", param=where
        )
    check_encodable(text, where, faults)
    return text


def _read_chat(raw: object, where: str, reading: Reading, faults: Faults, unknown: list[str]) -> Chat:
    values = reading.values
    continues = values.get("continue_final_message", False)
    adds = values.get("add_generation_prompt")
    if continues and adds:
        faults.add(
            "'continue_final_message' and 'add_generation_prompt' exclude each other; send one of them",
            param="continue_final_message",
        )
    return Chat(
        messages=read_messages(raw, where, faults, unknown),
        tools=cast("tuple[Mapping[str, object], ...]", values.get("tools", ())),
        add_generation_prompt=not continues if adds is None else bool(adds),
        continue_final_message=bool(continues),
        template_options=cast("Mapping[str, object]", values.get("template_options", {})),
    )


def _check_together(request: GenerateRequest, max_prompts: int, faults: Faults) -> None:
    """Add faults of values that are fine alone."""
    parameters = request.parameters
    if parameters.n > 1 and request.texts > max_prompts:
        sentence = _too_many(f"'n' is {parameters.n}, so the call has {request.texts} texts", max_prompts)
        faults.add(sentence, code="too_many_inputs", param="n")
    if request.stream and request.form == "tgi" and request.texts > 1:
        faults.add(
            f"'stream' takes one text, and this call has {request.texts}; make one call for each",
            param="stream",
        )
    if request.stream and parameters.decoder_input_details:
        faults.add("'decoder_input_details' is not in a stream; leave it out", param="decoder_input_details")
    if request.stream and request.form == "completion" and parameters.return_full_text:
        faults.add("'echo' is not in a stream; put the prompt before the text yourself", param="echo")
    if parameters.return_full_text and any(isinstance(prompt, Chat) for prompt in request.prompts):
        faults.add("'return_full_text' is for texts; the answer to a chat is its new turn", param="inputs")


def _too_many(what: str, max_prompts: int) -> str:
    """Return the sentence for more texts than even an idle endpoint takes."""
    return (
        f"{what}; this endpoint takes at most {max_prompts} in one call (its rows and its queue together): "
        "send them in several calls"
    )
