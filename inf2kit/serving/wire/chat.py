"""Chats: messages, tools, and what else a chat template takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inf2kit.serving.wire.faults import Faults, shorten, show
from inf2kit.serving.wire.values import Kind, is_encodable, json_type

_ROLES = ("system", "developer", "user", "assistant", "tool")
#: Keys of a message that templates use, besides its role and content.
_FOR_THE_TEMPLATE = ("name", "tool_calls", "tool_call_id", "reasoning_content")
#: Keys of a message, or of a part of its content, that ask for nothing.
_PASSED = frozenset(("cache_control", "id", "annotations"))
_MAX_TOOLS = 128
_SHOWN_ROLE = 40
#: Arguments of transformers' ``apply_chat_template``, which no variable of a template may replace.
_RESERVED = frozenset(
    (
        "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents",
        "max_length", "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors",
        "self", "tokenize", "tokenizer_kwargs", "tools", "truncation",
    )
)  # fmt: skip


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


class Tools(Kind):
    """Descriptions of functions."""

    allowed = (
        f"a list of at most {_MAX_TOOLS} functions, such as "
        '{"type": "function", "function": {"name": "get_time", "parameters": {}}}'
    )

    def read(self, value: object) -> object:
        """Return the descriptions as a tuple."""
        if not isinstance(value, list | tuple) or len(value) > _MAX_TOOLS:
            raise ValueError
        for tool in value:
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise ValueError
        if not _is_encodable(value):
            raise ValueError
        return tuple(value)


class TemplateOptions(Kind):
    """Variables of a chat template."""

    allowed = (
        'an object with variables of the chat template, such as {"enable_thinking": false}; tools, '
        "add_generation_prompt and continue_final_message are options of their own"
    )

    def read(self, value: object) -> object:
        """Return the variables."""
        if not isinstance(value, dict) or not _RESERVED.isdisjoint(value) or not _is_encodable(value):
            raise ValueError
        return value


def read_messages(
    raw: object, where: str, faults: Faults, unknown: list[str]
) -> tuple[Mapping[str, object], ...]:
    """Return a chat's messages with their texts joined.

    Args:
        raw: JSON value of the messages.
        where: What they are called, for faults.
        faults: Collects what is wrong.
        unknown: Collects keys that are not known.
    """
    if not isinstance(raw, list) or not raw:
        faults.add(
            f"'{where}' must be a list of at least one {{role, content}} object",
            code="invalid_messages",
            param=where,
        )
        return ()
    return tuple(
        _read_message(message, f"{where}[{index}]", faults, unknown) for index, message in enumerate(raw)
    )


def slim_messages(raw: list[Any]) -> list[dict[str, Any]]:
    """Return valid messages without the values of keys that nothing reads; their names stay, for warnings."""
    slim: list[dict[str, Any]] = []
    for message in raw:
        slim_message = {
            key: value if key in ("role", "content", *_FOR_THE_TEMPLATE) or not value else True
            for key, value in message.items()
        }
        if isinstance(content := message.get("content"), list):
            slim_message["content"] = [
                {key: value if key in ("type", "text") or not value else True for key, value in part.items()}
                for part in content
            ]
        slim.append(slim_message)
    return slim


def _read_message(message: object, where: str, faults: Faults, unknown: list[str]) -> Mapping[str, object]:
    def fault(sentence: str) -> None:
        faults.add(sentence, code="invalid_messages", param=where)

    nothing = {"role": "user", "content": ""}
    if not isinstance(message, dict):
        fault(f"{where} is a JSON {json_type(message)}; send {{role, content}} objects")
        return nothing
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        fault(f"{where}.role is missing; use 'system', 'user' or 'assistant'")
        return nothing
    if role not in _ROLES:
        fault(f"{where}.role is {shorten(role, _SHOWN_ROLE)!r}; use {', '.join(map(repr, _ROLES))}")
        return nothing
    if content is None and role == "assistant":
        content = ""  # the turn called a tool; OpenAI's clients send it back so
    if isinstance(content, list):
        content = _join_parts(content, where, faults, unknown)
    if not isinstance(content, str):
        faults.add(
            f"'{where}.content' is a JSON {json_type(content)}, not a text",
            code="invalid_inputs",
            param=where,
        )
        return nothing
    check_encodable(content, f"{where}.content", faults)
    read: dict[str, object] = {"role": role, "content": content}
    if len(message) > 2 or "content" not in message:
        for key, value in message.items():
            if key in _FOR_THE_TEMPLATE and value:
                read[key] = value
            elif value and key not in ("role", "content") and key not in _PASSED:
                unknown.append(f"{where}.{shorten(key, _SHOWN_ROLE)}")
        if "tool_calls" in read:
            read["tool_calls"] = _read_tool_calls(read["tool_calls"], f"{where}.tool_calls", faults)
        for key in ("name", "tool_call_id", "reasoning_content"):
            text = read.get(key, "")
            if not isinstance(text, str) or not is_encodable(text):
                fault(f"'{where}.{key}' is {show(text)}; it must be a text")
    return read


def _join_parts(parts: list[object], where: str, faults: Faults, unknown: list[str]) -> str:
    texts: list[str] = []
    for index, part in enumerate(parts):
        place = f"{where}.content[{index}]"
        if not isinstance(part, dict) or part.get("type") != "text":
            sentence = f"{place} is not a text part; this model reads text only"
            faults.add(sentence, code="invalid_messages", param=where)
            continue
        text = part.get("text")
        if isinstance(text, str):
            texts.append(text)
        else:
            sentence = f"'{place}.text' is a JSON {json_type(text)}, not a text"
            faults.add(sentence, code="invalid_inputs", param=where)
        for key, value in part.items():
            if value and key not in ("type", "text") and key not in _PASSED:
                unknown.append(f"{place}.{shorten(key, _SHOWN_ROLE)}")
    return "".join(texts)


def _read_tool_calls(raw: object, where: str, faults: Faults) -> list[dict[str, object]]:
    """Return calls with their arguments as an object, as templates expect them; OpenAI's are JSON text."""
    calls: list[dict[str, object]] = []
    for call in raw if isinstance(raw, list) else [raw]:
        function = call.get("function") if isinstance(call, dict) else None
        if not (isinstance(call, dict) and isinstance(function, dict) and _is_text(function.get("name"))):
            faults.add(
                f"'{where}' is {show(raw)}; it must be a list of objects with a function's name and "
                "arguments",
                code="invalid_messages",
                param=where,
            )
            return []
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                arguments = None
        if not isinstance(arguments or {}, dict) or not _is_encodable(call):
            arguments = None
        if arguments is None and function.get("arguments") is not None:
            faults.add(
                f"'{where}' has arguments {show(function['arguments'])}; they must be a JSON object",
                code="invalid_messages",
                param=where,
            )
        calls.append({**call, "function": {**function, "arguments": arguments or {}}})
    return calls


def check_encodable(text: str, where: str, faults: Faults) -> None:
    """Add a fault for half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        faults.add(
            f"'{where}' has a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
            "which is no text; send the whole pair or leave it out",
            code="invalid_unicode",
            param=where,
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_encodable(value: object) -> bool:
    try:
        return is_encodable(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):  # only a caller in this process can send these
        return False
