"""Whole and streamed answers of the real model, by boto3 through the whole stack."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from inf2kit import AsyncEndpoint, Endpoint, TextResult
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import EndpointCaller

PROMPT = "My favorite place on earth is"


def test_greedy_text_is_english_and_counted(caller: EndpointCaller) -> None:
    (answer,) = caller.generate(PROMPT, max_new_tokens=12, details=True)
    assert answer["generated_text"].startswith(" the ocean")
    details = answer["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["input_length"]) == (
        "length",
        12,
        6,
    )
    assert "".join(token["text"] for token in details["tokens"]) == answer["generated_text"]
    assert "warnings" not in answer


def test_prompts_of_one_call_come_back_in_order_and_as_if_alone(caller: EndpointCaller) -> None:
    prompts = ["Water boils at", "1, 2, 3, 4,", PROMPT, "Once upon a time, in a village by the sea,"]
    together = caller.generate(prompts, max_new_tokens=8, return_full_text=True)
    alone = [caller.generate(prompt, max_new_tokens=8, return_full_text=True)[0] for prompt in prompts]
    assert together == alone
    assert [
        answer["generated_text"].startswith(prompt) for answer, prompt in zip(together, prompts, strict=True)
    ]


def test_a_seed_repeats_a_sampled_text_in_any_company(caller: EndpointCaller) -> None:
    parameters = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 50, "top_p": 0.9, "seed": 7}
    alone = caller.generate(PROMPT, **parameters)
    with ThreadPoolExecutor(4) as pool:
        company = [pool.submit(caller.generate, f"{n} bottles", max_new_tokens=20) for n in range(3)]
        assert caller.generate(PROMPT, **parameters) == alone
        assert all(future.result() for future in company)
    assert caller.generate(PROMPT, **{**parameters, "seed": 8}) != alone


@pytest.mark.parametrize(
    "prompt",
    [PROMPT, "中文和日本語のテキスト:", "Emoji only: 😀🎉🚀 and again 😀", "naïve café — ", "def f(x):\n\t"],
)
def test_streamed_text_equals_unstreamed(caller: EndpointCaller, prompt: str) -> None:
    # High temperature makes byte tokens likely: characters that come in several tokens.
    for parameters in ({"max_new_tokens": 16}, {"max_new_tokens": 24, "temperature": 2.0, "seed": 3}):
        (whole,) = caller.generate(prompt, **parameters)
        events = caller.stream(prompt, **parameters)
        assert "".join(event["token"]["text"] for event in events) == whole["generated_text"]
        assert events[-1]["generated_text"] == whole["generated_text"]
        assert [event["index"] for event in events] == list(range(1, len(events) + 1))
        assert all(event["generated_text"] is None for event in events[:-1])


def test_a_stream_comes_token_by_token(caller: EndpointCaller) -> None:
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 20}, "stream": True}
    assert len(list(caller.parts(body))) >= 15  # two may share a packet; one packet would be no stream


def test_stop_texts_end_the_text_and_never_show_up(caller: EndpointCaller) -> None:
    (free,) = caller.generate(PROMPT, max_new_tokens=24)
    stop = free["generated_text"][20:28]  # across the borders of tokens
    (answer,) = caller.generate(PROMPT, max_new_tokens=24, stop=[stop], details=True)
    assert answer["details"]["finish_reason"] == "stop_sequence"
    assert answer["generated_text"] == free["generated_text"][:20]
    events = caller.stream(PROMPT, max_new_tokens=24, stop=[stop])
    assert "".join(event["token"]["text"] for event in events) == answer["generated_text"]
    (with_stop,) = caller.generate(PROMPT, max_new_tokens=24, stop=stop, include_stop_str_in_output=True)
    assert with_stop["generated_text"] == free["generated_text"][:28]


def test_forced_lengths_are_honoured(caller: EndpointCaller) -> None:
    chat = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
    (short,) = caller.generate(chat, max_new_tokens=60, details=True)
    assert short["details"]["finish_reason"] == "eos_token"
    needed = short["details"]["generated_tokens"] + 4
    (least,) = caller.generate(chat, max_new_tokens=60, min_new_tokens=needed, details=True)
    assert least["details"]["generated_tokens"] >= needed
    (forced,) = caller.generate(chat, max_new_tokens=60, ignore_eos=True, details=True)
    assert forced["details"]["generated_tokens"] == 60


def test_chat_through_the_template(caller: EndpointCaller) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
    answer = caller.invoke(
        {"model": "any", "messages": messages, "temperature": 0, "sagemaker_base_url": None}
    )
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "The capital of France is Paris.",
    }
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45}

    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    raw = b"".join(caller.parts(body))
    assert raw.endswith(b"data: [DONE]\n\n")
    events = caller.events(body)
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert text == "The capital of France is Paris."
    assert events[-1]["usage"] == answer["usage"]


def test_chats_as_inputs_are_answered_as_chats(caller: EndpointCaller) -> None:
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    begun = [*chat, {"role": "assistant", "content": "The capital of France is"}]
    alone = caller.generate(chat, max_new_tokens=8)
    assert alone[0]["generated_text"] == "The capital of France is Paris."
    both = caller.generate([chat, chat], max_new_tokens=8)
    assert both == alone * 2
    (continued,) = caller.generate(begun, max_new_tokens=3, continue_final_message=True)
    assert continued["generated_text"] == " Paris."


def test_completions_of_several_prompts(caller: EndpointCaller) -> None:
    body = {"prompt": [PROMPT, "Water boils at"], "max_tokens": 3, "logprobs": 1, "model": "any"}
    answer = caller.invoke(body)
    texts = [text["generated_text"] for text in caller.generate(body["prompt"], max_new_tokens=3)]
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert answer["usage"]["completion_tokens"] == 6
    for choice in answer["choices"]:
        assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
        assert len(choice["logprobs"]["top_logprobs"]) == 3
    streamed = {0: "", 1: ""}
    for event in caller.events({**body, "stream": True}):
        (choice,) = event["choices"]
        streamed[choice["index"]] += choice["text"]
    assert list(streamed.values()) == texts


def test_a_whole_answer_to_a_streaming_call_ends_its_line(caller: EndpointCaller) -> None:
    for body in (
        {"inputs": PROMPT, "parameters": {"max_new_tokens": 1}},
        {"inputs": [PROMPT], "max_tokens": 1},
    ):
        raw = b"".join(caller.parts(body))
        assert raw.endswith(b"]\n")
        assert json.loads(raw)[0]["generated_text"] == " the"


def test_leaked_keys_are_named_not_refused(caller: EndpointCaller) -> None:
    (answer,) = caller.invoke(
        {"inputs": PROMPT, "parameters": {"max_new_tokens": 2, "temprature": 1}, "sagemaker_base_url": "x"}
    )
    assert any("'sagemaker_base_url'" in warning for warning in answer["warnings"])
    assert any("did you mean 'temperature'" in warning for warning in answer["warnings"])


def test_a_length_beyond_the_row_is_clamped_and_said(caller: EndpointCaller) -> None:
    long = "word " * 2040
    (answer,) = caller.generate(long, max_new_tokens=10**30, details=True)
    room = 2048 - answer["details"]["input_length"]
    assert answer["details"]["generated_tokens"] == room
    assert f"lowered to {room}" in answer["warnings"][0]


def test_the_sdk_says_the_same_as_boto3(served: EndpointState, caller: EndpointCaller) -> None:
    endpoint = Endpoint(served.name)
    result = endpoint.generate(PROMPT, max_new_tokens=8)
    assert result.text == caller.generate(PROMPT, max_new_tokens=8)[0]["generated_text"]
    assert (result.generated_tokens, result.attempts, len(result.request_id or "")) == (8, 1, 36)
    assert "".join(endpoint.stream(PROMPT, max_new_tokens=8)) == result.text
    assert [generation.text for generation in endpoint.generate([PROMPT] * 2, max_new_tokens=8)] == [
        result.text
    ] * 2


def test_asyncio_and_chats_say_the_same(victim: EndpointState) -> None:
    messages = [{"role": "user", "content": "Hi"}]

    async def call_all() -> list[TextResult]:
        async with AsyncEndpoint(victim.name) as endpoint:
            whole, chat = await asyncio.gather(
                endpoint.generate(PROMPT, max_new_tokens=8), endpoint.chat(messages, max_new_tokens=8)
            )
            async with endpoint.stream(PROMPT, max_new_tokens=8) as stream:
                streamed = await stream.read()
            async with endpoint.chat(messages, stream=True, max_new_tokens=8) as stream:
                return [whole, streamed, chat, await stream.read()]

    endpoint = Endpoint(victim.name)
    expected = [
        endpoint.generate(PROMPT, max_new_tokens=8),
        endpoint.stream(PROMPT, max_new_tokens=8).read(),
        endpoint.chat(messages, max_new_tokens=8),
        endpoint.chat(messages, stream=True, max_new_tokens=8).read(),
    ]
    results = asyncio.run(call_all())
    for result, other in zip(results, expected, strict=True):
        assert (result.text, result.finish_reason) == (other.text, other.finish_reason)
        assert (result.input_tokens, result.generated_tokens) == (other.input_tokens, other.generated_tokens)
        assert result.generated_tokens == 8
    assert results[0].text == results[1].text
    assert results[2].text == results[3].text


def test_custom_attributes_and_the_variant_come_back_and_nothing_else(caller: EndpointCaller) -> None:
    response = caller.client.invoke_endpoint(
        EndpointName=caller.name,
        ContentType="application/json",
        CustomAttributes="trace=1",
        Body=json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": 1}}),
    )
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["ContentType"] == "application/json"
    allowed = {"content-type", "content-length", "date", "server"}
    allowed |= {"x-amzn-invoked-production-variant", "x-amzn-requestid"}
    assert set(response["ResponseMetadata"]["HTTPHeaders"]) <= allowed
