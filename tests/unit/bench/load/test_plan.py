"""Lengths, traces and captured calls become requests, and everything else a sentence."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import pytest

from inf2kit.bench.load.plan import Request, Workload
from inf2kit.errors import Inf2KitError
from inf2kit.planning.lengths import Lengths


def build(tokens: int, seed: int) -> str:
    return f"{tokens} tokens by {seed}"


def draw(workload: Workload, count: int, seed: str = "0") -> list[Request]:
    return list(itertools.islice(workload.draw(seed, build), count))


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def test_lengths_are_drawn_forced_and_the_same_for_the_same_seed() -> None:
    workload = Workload.of_lengths(Lengths.parse("64-128"), Lengths.parse("16"))
    requests = draw(workload, 50)
    assert requests == draw(workload, 50)
    assert requests != draw(workload, 50, seed="1")
    assert {request.wanted_input_tokens for request in requests} <= set(range(64, 129))
    assert all(request.parameters == {"max_new_tokens": 16, "ignore_eos": True} for request in requests)
    assert len({request.prompt for request in requests}) == 50, "no prompt is sent twice"


@pytest.mark.parametrize("text", ["", "0", "x", "5-4", "-5", "1-", "1.5"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Lengths.parse(text)


def test_a_trace_of_lengths_has_new_prompts_when_it_begins_again(tmp_path: Path) -> None:
    trace = write(
        tmp_path / "trace.jsonl",
        {"input_tokens": 10, "new_tokens": 5},
        {"timestamp": 3, "input_length": 20, "output_length": 6},
    )
    requests = draw(Workload.read_trace(trace), 4)
    assert [(each.wanted_input_tokens, each.wanted_tokens) for each in requests] == [(10, 5), (20, 6)] * 2
    assert len({each.prompt for each in requests}) == 4


def test_a_trace_with_times_is_put_in_their_order(tmp_path: Path) -> None:
    trace = write(
        tmp_path / "trace.jsonl",
        {"input_tokens": 10, "new_tokens": 5, "time_s": 107.5},
        {"input_tokens": 20, "new_tokens": 6, "time_s": 100},
    )
    workload = Workload.read_trace(trace)
    assert workload.times_s == (0.0, 7.5)
    assert [each.wanted_input_tokens for each in draw(workload, 2)] == [20, 10]


def test_traces_of_prompts_may_have_times(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "timestamp": 2500}
    workload = Workload.read_trace(
        write(tmp_path / "trace.jsonl", chat, {"inputs": ["a", "b"], "timestamp": 500})
    )
    assert workload.times_s == (0.0, 0.0, 2.0), "Mooncake's are milliseconds"
    assert draw(workload, 3)[2].parameters == {}


def test_a_trace_of_which_a_line_has_no_time_has_none(tmp_path: Path) -> None:
    call = {"input_tokens": 10, "new_tokens": 5}
    workload = Workload.read_trace(write(tmp_path / "trace.jsonl", {**call, "time_s": 1}, call))
    assert workload.times_s == ()


def test_a_trace_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n")
    (request,) = draw(Workload.read_trace(path), 1)
    assert (request.wanted_input_tokens, request.wanted_tokens) == (374, 44)


def test_a_trace_of_prompts(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}]
    trace = write(
        tmp_path / "trace.jsonl",
        "Once",
        {"inputs": ["a", "b"], "parameters": {"max_new_tokens": 5, "details": True}, "stream": True},
        {"messages": chat, "max_tokens": 7, "temperature": 0.5, "model": "x"},
    )
    assert draw(Workload.read_trace(trace), 5) == [
        Request("Once"),
        Request("a", (), {"max_new_tokens": 5}),
        Request("b", (), {"max_new_tokens": 5}),
        Request(None, tuple(chat), {"max_tokens": 7, "temperature": 0.5}),
        Request("Once"),
    ]


@pytest.mark.parametrize("encoding", ["JSON", "BASE64"])
def test_captured_calls(tmp_path: Path, encoding: str) -> None:
    data = json.dumps({"inputs": "Once", "parameters": {"max_new_tokens": 9}})
    if encoding == "BASE64":
        data = base64.b64encode(data.encode()).decode()
    captured = {
        "endpointInput": {"observedContentType": "application/json", "data": data, "encoding": encoding}
    }
    path = write(
        tmp_path / "capture.jsonl", {"captureData": captured, "eventMetadata": {}, "eventVersion": "0"}
    )
    workload = Workload.read_capture(path)
    assert draw(workload, 1) == [Request("Once", (), {"max_new_tokens": 9})]
    assert workload.times_s == ()


def test_captured_calls_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    def line(prompt: str, at: str) -> dict[str, object]:
        call = {"data": json.dumps({"inputs": prompt}), "encoding": "JSON"}
        return {"captureData": {"endpointInput": call}, "eventMetadata": {"inferenceTime": at}}

    path = write(tmp_path / "c.jsonl", line("b", "2026-11-26T19:00:02Z"), line("a", "2026-11-26T19:00:00Z"))
    workload = Workload.read_capture(path)
    assert workload.times_s == (0.0, 2.0)
    assert [request.prompt for request in draw(workload, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["{"],
        ['{"x": 1}'],
        ['{"input_tokens": 5}'],
        ['{"input_tokens": 0, "new_tokens": 4}'],
        ['{"input_tokens": true, "new_tokens": 4}'],
        ['{"input_tokens": 5, "new_tokens": 4}', '"text"'],
        ['{"messages": []}'],
        ['{"inputs": [1]}'],
        ["7"],
        ['{"input_tokens": 5, "new_tokens": 4, "time_s": "soon"}'],
        ['{"input_tokens": 5.5, "new_tokens": 4}'],
    ],
)
def test_a_trace_that_cannot_be_read_is_a_sentence(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(Inf2KitError, match=r"trace\.jsonl"):
        Workload.read_trace(path)


@pytest.mark.parametrize("line", ["{}", '{"captureData": {"endpointInput": {"data": "x"}}}', "[]"])
def test_a_capture_that_cannot_be_read_is_a_sentence(tmp_path: Path, line: str) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(Inf2KitError, match=r"no record of SageMaker's data capture"):
        Workload.read_capture(path)
