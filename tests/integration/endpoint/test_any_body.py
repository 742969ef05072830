"""Random bodies, valid ones and invalid ones: each gets an answer or a refusal that names what is wrong."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.state import EndpointState
from tests.helpers.local_endpoint import find_processes, read_metrics
from tests.helpers.servers import PATIENCE_S

#: Bodies in all, and bodies at once. The same command with INF2KIT_TEST_BODIES=10000 sends more.
COUNT, CALLERS = int(os.environ.get("INF2KIT_TEST_BODIES", "1000")), 4

TEXTS = st.sampled_from(["Once upon a time", "x", "Grüße 你好 🙂", "a\tb\n", " "])
#: Valid values of every option; with a few of what clients send as their defaults.
VALUES: dict[str, st.SearchStrategy[object]] = {
    "min_new_tokens": st.integers(0, 3),
    "ignore_eos": st.booleans(),
    "do_sample": st.booleans(),
    "temperature": st.sampled_from([0, 0.0, 0.7, 1, 1.5, 100.0]),
    "top_k": st.sampled_from([-1, 0, 1, 50, 10**9]),
    "top_p": st.sampled_from([0, 0.1, 0.9, 1, 1.0]),
    "min_p": st.sampled_from([0, 0.05, 1.0]),
    "typical_p": st.sampled_from([0.2, 0.95, 1.0]),
    "repetition_penalty": st.sampled_from([0.5, 1, 1.0, 1.3]),
    "presence_penalty": st.sampled_from([-2, 0, 0.5, 2.0]),
    "frequency_penalty": st.sampled_from([-2, 0, 0.5, 2.0]),
    "logit_bias": st.dictionaries(st.integers(0, 1000).map(str), st.integers(-100, 100), max_size=3),
    "seed": st.sampled_from([-1, 0, 42, 2**63 - 1]),
    "overflow": st.sampled_from(["stop", "sinks"]),
    "stop": st.sampled_from(["x", ["x", "the"], [], "<|im_end|>"]),
    "stop_token_ids": st.lists(st.integers(0, 1000), max_size=3),
    "include_stop_str_in_output": st.booleans(),
}
TGI_VALUES = {
    **VALUES,
    "details": st.booleans(),
    "top_n_tokens": st.sampled_from([0, 1, 5]),
    "decoder_input_details": st.booleans(),
    "truncate": st.sampled_from([1, 5, 1000]),
    "watermark": st.just(False),
    "best_of": st.just(1),
}
CHAT_VALUES = {
    **VALUES,
    "logprobs": st.booleans(),
    "n": st.sampled_from([1, 2]),
    "user": st.text(max_size=3),
    "tools": st.just([]),
    "response_format": st.just({"type": "text"}),
    "model": st.sampled_from(["", "anything"]),
}
COMPLETION_VALUES = {**VALUES, "n": st.sampled_from([1, 2]), "echo": st.booleans(), "best_of": st.just(1)}

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["50", "true", "-1", 10**40, 1e308, [], {}, ["x"], [1], {"role": "user"}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS}),
    min_size=1,
    max_size=3,
)


def some_of(values: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[dict[str, object]]:
    """A few of the options, and a length, since the default of a chat is the rest of the row."""
    length = st.fixed_dictionaries({"max_new_tokens": st.integers(1, 4)})
    names = st.lists(st.sampled_from(sorted(values)), max_size=5, unique=True)
    options = names.flatmap(lambda chosen: st.fixed_dictionaries({name: values[name] for name in chosen}))
    return st.tuples(length, options).map(lambda parts: {**parts[0], **parts[1]})


TEXT_VALUES = {**TGI_VALUES, "return_full_text": st.booleans()}
TGI = st.fixed_dictionaries(
    {"inputs": TEXTS | st.lists(TEXTS, min_size=1, max_size=2), "parameters": some_of(TEXT_VALUES)}
) | st.fixed_dictionaries({"inputs": MESSAGES, "parameters": some_of(TGI_VALUES)})
CHAT = st.tuples(MESSAGES, some_of(CHAT_VALUES)).map(lambda parts: {"messages": parts[0], **parts[1]})
COMPLETION = st.tuples(TEXTS, some_of(COMPLETION_VALUES)).map(lambda parts: {"prompt": parts[0], **parts[1]})


def can_stream(body: dict[str, Any]) -> bool:
    """Whether a valid body may stream: it has one text, and asks for nothing that a stream cannot have."""
    options = body.get("parameters", body)
    vain = options.get("echo") or options.get("decoder_input_details")
    return isinstance(body.get("inputs", ""), str) and not vain


VALID = st.tuples(TGI | CHAT | COMPLETION, st.booleans()).map(
    lambda parts: {**parts[0], "stream": True} if parts[1] and can_stream(parts[0]) else parts[0]
)


@st.composite
def wrong_bodies(draw: st.DrawFn) -> object:
    """A valid body of which one or more values were replaced by any JSON value, or one that never was."""
    body: Any = json.loads(json.dumps(draw(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        target = (
            body["parameters"] if isinstance(body.get("parameters"), dict) and draw(st.booleans()) else body
        )
        keys = sorted(TGI_VALUES if target is not body else CHAT_VALUES) + sorted(target)
        target[draw(st.sampled_from(keys) | st.text(max_size=6))] = draw(JSON_VALUES)
    return body


#: Bodies, and whether each is valid.
BODIES = st.tuples(st.just(True), VALID) | st.tuples(st.just(False), wrong_bodies())


def keys_of(body: object) -> set[str]:
    """Every key of a body, at any depth."""
    if isinstance(body, dict):
        return {*body, *(key for value in body.values() for key in keys_of(value))}
    return {key for item in body for key in keys_of(item)} if isinstance(body, list) else set()


def test_every_body_gets_an_answer_or_a_refusal_that_names_its_fault(
    eager: EndpointState, figure: Callable[[str], None]
) -> None:
    pids = {process.pid for process in find_processes(eager, "inf2kit")}
    statuses: Counter[int] = Counter()
    url = f"http://127.0.0.1:{eager.gateway_port}/invocations"
    clients = threading.local()

    def post(body: tuple[bool, object]) -> httpx.Response:
        if not hasattr(clients, "client"):
            clients.client = httpx.Client(timeout=PATIENCE_S, headers={"content-type": "application/json"})
        response: httpx.Response = clients.client.post(url, content=json.dumps(body[1]))
        return response

    @settings(
        max_examples=COUNT // CALLERS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        database=None,
    )
    @given(st.lists(BODIES, min_size=CALLERS, max_size=CALLERS))
    def send(bodies: list[tuple[bool, object]]) -> None:
        for (is_valid, body), response in zip(bodies, pool.map(post, bodies), strict=True):
            statuses[response.status_code] += 1
            note = f"{json.dumps(body)} -> {response.status_code} {response.text[:400]}"
            if response.status_code == 200:
                assert '"error"' not in response.text, note
                continue
            assert not is_valid, note
            assert response.status_code in (400, 422), note
            error = response.json()["error"]
            message = error if isinstance(error, str) else error["message"]
            names = {*keys_of(body), "inputs", "messages", "prompt"} - {""}
            assert any(name in message for name in names), note

    with ThreadPoolExecutor(CALLERS) as pool:
        send()
    figure(f"random bodies: {sum(statuses.values())}, by status {dict(sorted(statuses.items()))}")
    assert statuses[200] > COUNT / 4
    assert statuses[422] > COUNT / 10
    assert {process.pid for process in find_processes(eager, "inf2kit")} == pids, "no process was lost"
    assert LocalEndpoint(eager.name).describe().status == "InService"
    assert not [value for name, value in read_metrics(eager).items() if "restarts" in name and value]
