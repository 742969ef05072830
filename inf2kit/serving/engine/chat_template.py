"""A chat to the text of a prompt, by the model's own chat template."""

from __future__ import annotations

import inspect
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.wire import Chat

#: Keys of messages that are looked for in the prompt, so that a warning can say that they are not there.
_MAX_CHECKED_KEYS = 8
#: What a message always has, and an id that only links a tool's turn to its call.
_UNCHECKED_KEYS = ("role", "content", "tool_call_id")
_MAX_SHOWN_ERROR = 300

_Message = Mapping[str, Any]


class ChatTemplate:
    """Renders chats with a tokenizer's template.

    Args:
        tokenizer: A transformers tokenizer, with or without a template, or with several named ones.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Variables of a template that are not free, as transformers has arguments of these names.
        parameters = set(inspect.signature(tokenizer.apply_chat_template).parameters)
        self._reserved = (parameters | {"messages", "conversations"}) - {"documents", "kwargs"}

    def render(self, chat: Chat) -> tuple[str, tuple[str, ...]]:
        """Return the prompt's text, and a warning for what the template does not use.

        Raises:
            RequestError: 422: there is no template, or it refuses the chat.
        """
        template = self._select(chat)
        for name in chat.template_options:
            if name in self._reserved:
                raise RequestError(
                    422,
                    "invalid_parameter",
                    f"the chat template's variable {name!r} cannot be set; leave it out",
                )
        messages = [_with_text(message) for message in chat.messages]
        try:
            text = self._render(chat, template, messages)
        except Exception as error:  # a template may raise anything, for example jinja2's errors
            # Most templates take the arguments of tool calls as objects, some as OpenAI's text.
            messages = [_with_argument_texts(message) for message in messages]
            try:
                text = self._render(chat, template, messages)
            except Exception:
                raise _refused(error) from None
        ignored = [
            *self._ignored(chat, template, messages, text),
            *(name for name in chat.template_options if not re.search(rf"\b{re.escape(name)}\b", template)),
        ]
        if not ignored:
            return text, ()
        names = ", ".join(map(repr, ignored))
        return text, (f"the model's chat template does not use {names}, so the model did not see it",)

    def _select(self, chat: Chat) -> str:
        templates = self._tokenizer.chat_template
        if not templates:
            raise RequestError(
                422,
                "no_chat_template",
                "this model has no chat template (it is a base model); send 'inputs' instead of 'messages'",
            )
        if isinstance(templates, str):
            return templates
        names = ["tool_use", "default"] if chat.tools else ["default"]
        for name in names:
            if name in templates:
                return str(templates[name])
        raise RequestError(
            422,
            "no_chat_template",
            f"this model has chat templates named {', '.join(map(repr, sorted(templates)))} and no default; "
            "make the package again with one of them as 'default', or send 'inputs' instead of 'messages'",
        )

    def _render(
        self,
        chat: Chat,
        template: str,
        messages: Sequence[_Message],
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> str:
        tools = chat.tools if tools is None else tools
        mark = secrets.token_hex(8)
        if chat.continue_final_message:
            # The mark ends with a space, as a template may remove spaces at the end of a message.
            final = {**messages[-1], "content": f"{messages[-1]['content']}{mark} "}
            messages = [*messages[:-1], final]
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            tools=[dict(tool) for tool in tools] or None,
            chat_template=template,
            add_generation_prompt=chat.add_generation_prompt and not chat.continue_final_message,
            tokenize=False,
            **chat.template_options,
        )
        if not chat.continue_final_message:
            return text
        text, separator, rest = text.rpartition(mark)
        if not separator:
            raise ValueError("it leaves the final message out, which therefore cannot be continued")
        return text if rest.startswith(" ") else text.rstrip()

    def _ignored(self, chat: Chat, template: str, messages: Sequence[_Message], text: str) -> Iterator[str]:
        """Yield what the text would be the same without."""

        def is_same(
            messages: Sequence[_Message], tools: Sequence[Mapping[str, object]] | None = None
        ) -> bool:
            if not messages:
                return False
            try:
                return self._render(chat, template, messages, tools) == text
            except Exception:  # the template needs what was left out
                return False

        if chat.tools and is_same(messages, tools=()):
            yield "tools"
        keys = dict.fromkeys(key for message in messages for key in message if key not in _UNCHECKED_KEYS)
        for key in list(keys)[:_MAX_CHECKED_KEYS]:
            without = [{name: message[name] for name in message if name != key} for message in messages]
            if is_same(without):
                yield key
        turns = [message for message in messages if message["role"] != "tool"]
        if len(turns) < len(messages) and is_same(turns):
            yield "tool (turns of this role)"


def _with_text(message: _Message) -> _Message:
    """The message with a text, which many templates need."""
    return message if message.get("content") is not None else {**message, "content": ""}


def _with_argument_texts(message: _Message) -> _Message:
    """The message with the arguments of its tool calls as JSON texts."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"].get("arguments"))}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, "tool_calls": calls} if calls else message


def _refused(error: Exception) -> RequestError:
    sentence = str(error) or type(error).__name__
    return RequestError(
        422,
        "invalid_messages",
        f"the model's chat template refuses the messages: {sentence[:_MAX_SHOWN_ERROR]}",
    )
