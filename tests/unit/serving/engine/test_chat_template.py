"""Chats through the model's template: what reaches it, what it leaves out, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from inf2kit.errors import RequestError
from inf2kit.serving.engine.chat_template import ChatTemplate
from inf2kit.serving.wire import Chat
from tests.helpers.small_tokenizers import sentencepiece_like, with_template

PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRIMMING = PLAIN.replace("m.content", "m.content | trim")
CALLING = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for call in m.tool_calls %}{{ call.function.name }}"
    "{% for key, value in call.function.arguments.items() %}({{ key }}={{ value }}){% endfor %}{% endfor %}"
    "<|end|>{% endfor %}{% if thinking is defined and not thinking %}<no>{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{{ m.content }}{% endfor %}"
)
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "get_time", "arguments": {"zone": "UTC"}}}
CONVERSATION: tuple[Mapping[str, object], ...] = (
    {"role": "user", "content": "What time is it?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "12:00", "tool_call_id": "1"},
)


def render(template: str | dict[str, str] | None, chat: Chat) -> tuple[str, tuple[str, ...]]:
    return ChatTemplate(with_template(sentencepiece_like(), template)).render(chat)


def test_tool_calls_and_tool_turns_reach_the_template() -> None:
    text, warnings = render(CALLING, Chat(CONVERSATION, tools=(TOOL,)))
    assert warnings == ()
    assert "get_time(zone=UTC)" in text
    assert "<|tool|>12:00<|end|>" in text
    assert text.startswith('[{"type": "function"')


def test_what_the_template_leaves_out_is_named() -> None:
    options = {"thinking": False, "budget": 3}
    text, (warning,) = render(PLAIN, Chat(CONVERSATION, tools=(TOOL,), template_options=options))
    assert "'tools', 'tool_calls', 'thinking', 'budget'" in warning
    assert "None" not in text, "a turn without content is empty"
    blind = "{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}"
    _, (warning,) = render(blind, Chat(CONVERSATION))
    assert "'tool_calls', 'tool (turns of this role)'" in warning
    assert render(CALLING, Chat(CONVERSATION, template_options={"thinking": False}))[1] == ()
    assert render(CALLING, Chat(CONVERSATION, template_options={"thinking": False}))[0].endswith("<no>")


def test_a_template_that_takes_arguments_as_texts_gets_texts() -> None:
    template = (
        "{% for m in messages %}{% for c in m.tool_calls %}{{ 'x' + c.function.arguments }}{% endfor %}"
    )
    text, _ = render(template + "{{ m.content }}{% endfor %}", Chat(CONVERSATION))
    assert 'x{"zone": "UTC"}' in text


@pytest.mark.parametrize("template", [PLAIN, TRIMMING])
@pytest.mark.parametrize("content", ["The answer is", "The answer is ", " x", "en", "", "a\nb\n"])
def test_the_last_turn_is_continued_where_it_ends(template: str, content: str) -> None:
    """Not where its text comes last: the end of turn has an "en", too."""
    messages = ({"role": "user", "content": "Q"}, {"role": "assistant", "content": content})
    text, _ = render(template, Chat(messages, add_generation_prompt=False, continue_final_message=True))
    written = content.strip() if template is TRIMMING else content
    assert text == "<|user|>Q<|end|>\n<|assistant|>" + written


def test_a_continued_turn_is_as_transformers_has_it(weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights)
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "The answer is"}]
    subject = ChatTemplate(tokenizer)
    chat = Chat(tuple(messages), add_generation_prompt=False, continue_final_message=True)
    expected = tokenizer.apply_chat_template(messages, continue_final_message=True, tokenize=False)
    assert subject.render(chat) == (expected, ())
    for adds in (True, False):
        chat = Chat(tuple(messages), add_generation_prompt=adds)
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=adds, tokenize=False)
        assert subject.render(chat) == (expected, ())


def test_a_turn_that_the_template_leaves_out_cannot_be_continued() -> None:
    messages = ({"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"})
    with pytest.raises(RequestError, match="leaves the final message out") as refused:
        render("{{ messages[0].content }}", Chat(messages, continue_final_message=True))
    assert refused.value.status == 422


def test_a_refusal_is_the_templates_own_sentence() -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "user", "content": "b"})
    with pytest.raises(
        RequestError, match=r"must alternate user/assistant/user/assistant/\.\.\.$"
    ) as refused:
        render(ALTERNATING, Chat(messages))
    assert (refused.value.status, refused.value.code) == (422, "invalid_messages")
    with pytest.raises(RequestError, match=r"refuses the messages: x{3,300}$"):
        render("{{ raise_exception(messages[0].content) }}", Chat(({"role": "user", "content": "x" * 9000},)))


def test_of_several_templates_the_default_one_is_taken_and_that_for_tools_with_tools() -> None:
    named = {
        "default": "plain {{ messages[0].content }}",
        "tool_use": "tools {{ tools | length }}",
        "rag": "r",
    }
    chat = Chat(({"role": "user", "content": "a"},))
    assert render(named, chat)[0] == "plain a"
    assert render(named, Chat(chat.messages, tools=(TOOL,)))[0] == "tools 1"
    del named["default"]
    with pytest.raises(RequestError, match="'rag', 'tool_use'") as refused:
        render(named, chat)
    assert (refused.value.status, refused.value.code) == (422, "no_chat_template")
    assert render(named, Chat(chat.messages, tools=(TOOL,)))[0] == "tools 1"
    with pytest.raises(RequestError, match="no chat template"):
        render(None, chat)


@pytest.mark.parametrize(
    "name", ["tokenize", "chat_template", "conversation", "messages", "tools", "padding"]
)
def test_no_variable_of_the_template_replaces_an_argument_of_transformers(name: str) -> None:
    chat = Chat(({"role": "user", "content": "a"},), template_options={name: "x"})
    with pytest.raises(RequestError, match=f"variable '{name}' cannot be set"):
        render(PLAIN, chat)


#: As the templates of Qwen3 and SmolLM3: the last question is looked for from the end, thoughts before it are
#: dropped, the model's turns are marked for trainers, and a caller can switch thinking off.
THINKING = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages[::-1] %}"
    "{%- if ns.last < 0 and m.role == 'user' %}{%- set ns.last = messages|length - 1 - loop.index0 %}"
    "{%- endif %}{%- endfor %}"
    "{%- for m in messages %}<|{{ m.role }}|>{%- if m.role == 'assistant' %}{% generation %}"
    "{{- m.content if loop.index0 > ns.last else m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{% endgeneration %}{%- else %}{{- m.content }}{%- endif %}<|end|>{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
#: As Granite's: a system turn of its own with the day's date, and documents beside the turns.
DATED = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set turns = messages[1:] %}{%- else %}"
    "{%- set system = \"Today's Date: \" + strftime_now('%B %d, %Y') + '.' %}"
    "{%- set turns = messages %}{%- endif %}"
    "{{- '<|system|>' + system }}"
    "{%- for d in documents or [] %}{{- '<|document|>' + d['text'] }}{%- endfor %}"
    "{%- for m in turns %}{{- '<|' + m['role'] + '|>' + m['content'] }}{%- endfor %}"
)


def test_thinking_is_switched_off_and_earlier_thoughts_are_dropped() -> None:
    turns: tuple[Mapping[str, object], ...] = (
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "<think>Hm.</think>\n\nTwo."},
        {"role": "user", "content": "And now?"},
    )
    text, warnings = render(THINKING, Chat(turns))
    assert (text, warnings) == (
        "<|user|>One?<|end|><|assistant|>Two.<|end|><|user|>And now?<|end|><|assistant|>",
        (),
    )
    silent, warnings = render(THINKING, Chat(turns, template_options={"enable_thinking": False}))
    assert (silent, warnings) == (f"{text}<think>\n\n</think>\n\n", ())


def test_a_template_knows_the_date_and_takes_documents() -> None:
    documents = [{"text": "Rome is old."}]
    question = {"role": "user", "content": "How old?"}
    text, warnings = render(DATED, Chat((question,), template_options={"documents": documents}))
    assert re.fullmatch(
        r"<\|system\|>Today's Date: \w+ \d\d, \d{4}\.<\|document\|>Rome is old\.<\|user\|>How old\?", text
    )
    assert warnings == ()
    own, _ = render(DATED, Chat(({"role": "system", "content": "Be brief."}, question)))
    assert own == "<|system|>Be brief.<|user|>How old?"
