"""``generate``, ``chat`` and ``batch`` against a server that answers as an endpoint does, or wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from inf2kit.cli.commands import main
from inf2kit.rehearsal.runtime import event_stream
from inf2kit.serving.wire import AnswerOptions, Generation, Token, response_writer
from tests.helpers.fault_server import (
    FAULTS,
    STREAM_TYPE,
    TEXT,
    FaultServer,
    chunk,
    echo,
    fault_server,
    head,
    read_prompt,
    read_request,
    refuse,
)
from tests.helpers.servers import PATIENCE_S, wait_until

INF2KIT = str(Path(sys.executable).with_name("inf2kit"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with fault_server() as server:
        yield server


def run(server: FaultServer, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, [*arguments, "--endpoint-url", server.url], **options)


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_generate_prints_the_text(server: FaultServer, options: list[str]) -> None:
    result = run(server, "generate", "e", "Hello", *options)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")


def chat_turns(server: FaultServer, pause_s: float = 0.0) -> list[list[dict[str, str]]]:
    """Answer each chat with the number of its turns; after "slow", nothing comes for a while."""
    seen: list[list[dict[str, str]]] = []

    def answer(connection: Any, is_stream: bool) -> None:
        messages = json.loads(read_request()[1])["messages"]
        seen.append(messages)
        writer = response_writer(AnswerOptions("chat", usage="last"))
        words = [f"{len(messages)}", " turns"]
        tokens = [Token(number, word, None, special=False) for number, word in enumerate(words)]
        parts = writer.first_records() + writer.token_records(0, 1, tokens[0])
        connection.sendall(head(200, STREAM_TYPE, None))
        for part in parts:
            connection.sendall(chunk(event_stream.encode_payload_part(part)))
        if messages[-1]["content"] == "slow":
            time.sleep(pause_s)
        for part in writer.last_records(0, 2, tokens[1], Generation("".join(words), "", "length", 3, 2)):
            connection.sendall(chunk(event_stream.encode_payload_part(part)))
        connection.sendall(chunk(b""))

    server.plans["e"] = [answer]
    return seen


def test_a_chat_keeps_its_history(server: FaultServer) -> None:
    seen = chat_turns(server)
    result = run(server, "chat", "e", "--system", "Be brief.", "--max-new-tokens", "9", input="Hi\n\nAnd?\n")
    assert (result.exit_code, result.stdout) == (0, "2 turns\n4 turns\n")
    assert [turn["content"] for turn in seen[1]] == ["Be brief.", "Hi", "2 turns", "And?"]


def test_a_chat_that_is_not_answered_ends_with_a_sentence(server: FaultServer) -> None:
    server.plans["e"] = [FAULTS["422 of the container"]]
    result = run(server, "chat", "e", input="Hi\n")
    assert (result.exit_code, result.output) == (1, "Error: endpoint 'e' answered: no\n")


def test_ctrl_c_stops_an_answer_and_not_the_chat(server: FaultServer) -> None:
    seen = chat_turns(server, pause_s=30)
    command = [INF2KIT, "chat", "e", "--endpoint-url", server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("slow\n")
        process.stdin.flush()
        assert process.stdout.read(1) == "1"
        process.send_signal(signal.SIGINT)
        process.stdin.write("And now?\n")
        process.stdin.close()
        assert process.stdout.read() == "\n(stopped)\n3 turns\n"
        assert process.wait(PATIENCE_S) == 0
    assert [turn["content"] for turn in seen[1]] == ["slow", "1", "And now?"]


def write_lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_batch_has_a_line_for_each_line_in_order(server: FaultServer, tmp_path: Path) -> None:
    def fail_one(connection: Any, is_stream: bool) -> None:
        (FAULTS["422 of the container"] if read_prompt() == "bad" else echo)(connection, is_stream)

    server.plans["e"] = [fail_one]
    requests = write_lines(
        tmp_path / "in.jsonl",
        "a",
        {"inputs": "b", "id": 7, "parameters": {"seed": 1}},
        {"prompt": "bad"},
        "你好",
    )
    answers = tmp_path / "out.jsonl"
    result = run(server, "batch", str(requests), str(answers), "--endpoint", "e")
    assert result.exit_code == 1
    assert "line 3: endpoint 'e' answered: no" in result.stderr
    assert "4/4 done, 1 failed" in result.stderr
    lines = read_lines(answers)
    assert [line.get("text") for line in lines] == ["a", "b", None, "你好"]
    assert lines[1]["id"] == 7
    assert (lines[2]["error_type"], lines[2]["status"]) == ("EndpointRequestError", 422)


def test_a_requests_own_length_counts_before_the_options(server: FaultServer, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def note(connection: Any, is_stream: bool) -> None:
        seen.append(json.loads(read_request()[1]))
        echo(connection, is_stream)

    server.plans["e"] = [note]
    requests = write_lines(
        tmp_path / "in.jsonl",
        {"inputs": "a", "parameters": {"max_tokens": 3}, "stream": True},
        {"inputs": "b", "max_new_tokens": 4, "model": "any"},
        "c",
    )
    options = ["--endpoint", "e", "--max-new-tokens", "9", "--seed", "1", "--concurrency", "1"]
    assert run(server, "batch", str(requests), f"{tmp_path}/out.jsonl", *options).exit_code == 0
    assert [body["parameters"] for body in seen] == [
        {"details": "counts", "seed": 1, "max_tokens": 3},
        {"details": "counts", "seed": 1, "max_new_tokens": 4},
        {"details": "counts", "seed": 1, "max_new_tokens": 9},
    ]
    assert all("stream" not in body for body in seen)


def test_a_batch_goes_on_where_it_stopped(server: FaultServer, tmp_path: Path) -> None:
    server.plans["e"] = [echo]
    requests = write_lines(tmp_path / "in.jsonl", "a", "b", "c")
    answers = tmp_path / "out.jsonl"
    answers.write_bytes(b'{"text": "of the first run"}\n{"text": "hal')
    result = run(server, "batch", str(requests), str(answers), "--endpoint", "e", "--quiet")
    assert (result.exit_code, server.requests["e"]) == (0, 2)
    assert "1 of 3 lines are in" in result.stderr
    assert [line["text"] for line in read_lines(answers)] == ["of the first run", "b", "c"]
    again = run(server, "batch", str(requests), str(answers), "--endpoint", "e")
    assert (again.exit_code, server.requests["e"]) == (0, 2)


@contextmanager
def stopped_batch(
    server: FaultServer, tmp_path: Path, count: int, is_held: Callable[[str], bool], begun: Callable[[], bool]
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """Ctrl-C a batch with two callers, once something has begun; some calls are answered after an event."""
    released = threading.Event()

    def hold(connection: Any, is_stream: bool) -> None:
        if is_held(read_prompt()):
            released.wait(PATIENCE_S)
        echo(connection, is_stream)

    server.plans["e"] = [hold]
    requests = write_lines(tmp_path / "in.jsonl", *map(str, range(count)))
    command = [INF2KIT, "batch", str(requests), str(tmp_path / "out.jsonl"), "--endpoint", "e", "--quiet"]
    command += ["--concurrency", "2", "--endpoint-url", server.url]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_until(begun, "it has begun")
            process.send_signal(signal.SIGINT)
            yield process, released
    finally:
        released.set()


def read_until(process: subprocess.Popen[str], sentence: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if sentence in line:
            return
    raise AssertionError(f"not printed: {sentence}")


def go_on(server: FaultServer, tmp_path: Path, count: int) -> int:
    """Run the same batch again to its end, and return the number of its calls."""
    before = server.requests["e"]
    arguments = ["batch", f"{tmp_path}/in.jsonl", f"{tmp_path}/out.jsonl", "--endpoint", "e"]
    assert run(server, *arguments).exit_code == 0
    assert [line["text"] for line in read_lines(tmp_path / "out.jsonl")] == [*map(str, range(count))]
    return server.requests["e"] - before


def test_ctrl_c_of_a_batch_waits_for_the_calls_in_flight_and_sends_no_other(
    server: FaultServer, tmp_path: Path
) -> None:
    """They are paid for: with the second run, each prompt was sent once."""

    def is_held(prompt: str) -> bool:
        return int(prompt) in (3, 4)

    def both_are_held() -> bool:
        return server.requests["e"] == 5 and len(read_lines(tmp_path / "out.jsonl")) == 3

    with stopped_batch(server, tmp_path, 40, is_held, both_are_held) as (process, released):
        read_until(process, "waiting for the answers of 2 calls in flight")
        released.set()
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert errors.strip() == (
        f"stopped after 5 of 40 lines; run the same command again to go on with {tmp_path}/out.jsonl"
    )
    assert [line["text"] for line in read_lines(tmp_path / "out.jsonl")] == ["0", "1", "2", "3", "4"]
    assert server.requests["e"] == 5
    assert go_on(server, tmp_path, 40) == 35


def test_a_second_ctrl_c_drops_the_calls_in_flight_and_keeps_the_answers_ahead_of_them(
    server: FaultServer, tmp_path: Path
) -> None:
    """It ends at once, though the first call is not answered."""
    ahead = tmp_path / "out.jsonl.ahead"

    def others_are_answered() -> bool:
        return ahead.exists() and ahead.read_bytes().count(b"\n") == 8

    with stopped_batch(server, tmp_path, 9, lambda prompt: prompt == "0", others_are_answered) as (
        process,
        _,
    ):
        read_until(process, "waiting for the answers of 1 call in flight")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert go_on(server, tmp_path, 9) == 1


def test_a_batch_whose_credentials_expire_stops_and_goes_on_with_new_ones(
    server: FaultServer, tmp_path: Path
) -> None:
    """Nothing was generated of what was refused, so no line of it is written."""

    def expire(connection: Any, is_stream: bool) -> None:
        fault = refuse(403, "ExpiredTokenException", {"message": "The security token is expired"})
        (echo if int(read_prompt()) < 5 else fault)(connection, is_stream)

    server.plans["e"] = [expire]
    requests = write_lines(tmp_path / "in.jsonl", *map(str, range(40)))
    arguments = ["batch", str(requests), f"{tmp_path}/out.jsonl", "--endpoint", "e", "--concurrency", "2"]
    result = run(server, *arguments)
    assert result.exit_code == 1
    assert "stopped after 5 of 40 lines; run the same command again to go on" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: endpoint 'e' answered: The security token")
    assert [line["text"] for line in read_lines(tmp_path / "out.jsonl")] == ["0", "1", "2", "3", "4"]
    assert server.requests["e"] < 15
    server.plans["e"] = [echo]
    go_on(server, tmp_path, 40)


def test_a_batch_that_is_killed_has_each_answer_that_came(server: FaultServer, tmp_path: Path) -> None:
    """The first answer does not come before the others, and no kill lets those be generated twice."""
    released = threading.Event()

    def slow_head(connection: Any, is_stream: bool) -> None:
        if read_prompt() == "0":
            released.wait(PATIENCE_S)
        echo(connection, is_stream)

    server.plans["e"] = [slow_head]
    prompts = [str(number) for number in range(9)]
    requests = write_lines(tmp_path / "in.jsonl", *prompts)
    answers, ahead = tmp_path / "out.jsonl", tmp_path / "out.jsonl.ahead"
    command = [INF2KIT, "batch", str(requests), str(answers), "--endpoint", "e", "--concurrency", "2"]
    command += ["--endpoint-url", server.url, "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: ahead.exists() and ahead.read_bytes().count(b"\n") == 8, "eight answers")
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    released.set()
    assert answers.read_bytes() == b""
    ahead.write_bytes(ahead.read_bytes()[:-3])
    calls = server.requests["e"]
    again = run(server, "batch", str(requests), str(answers), "--endpoint", "e")
    assert (again.exit_code, server.requests["e"] - calls) == (0, 2), "the first, and the half-written one"
    assert "7 of 9 lines are in" in again.stderr
    assert [line["text"] for line in read_lines(answers)] == prompts
    assert not ahead.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has no lines"),
        (b'"a"\nnot json\n', "line 2 is not JSON"),
        (b'"a"\n{"input": "x"}\n', "line 2: a request has input; give inputs or messages"),
        (b'{"inputs": "x", "messages": []}\n', "line 1: a request has inputs, messages"),
        (b'{"inputs": ["a", "b"]}\n', "line 1: inputs must be one text"),
        (b'{"inputs": "a", "parameters": {"n": 2}}\n', "line 1: n must be 1"),
        (b'{"messages": "Hi"}\n', "line 1: the messages are 'Hi'"),
        (b"3\n", "line 1 is no request"),
        (b"\xff\xfe\n", "is not UTF-8"),
    ],
)
def test_nothing_is_sent_of_a_batch_with_a_wrong_line(
    server: FaultServer, tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    result = run(server, "batch", f"{tmp_path}/in.jsonl", f"{tmp_path}/out.jsonl", "--endpoint", "e")
    assert result.exit_code == 1
    assert sentence in result.output
    assert server.requests["e"] == 0


@pytest.mark.parametrize("content", [b"my precious notes\n", b"3\n", b'{"text": "a"}\n{"text": "b"}\n'])
def test_a_file_of_something_else_is_never_written_to(
    server: FaultServer, tmp_path: Path, content: bytes
) -> None:
    requests = write_lines(tmp_path / "in.jsonl", "a")
    (tmp_path / "out").write_bytes(content)
    result = run(server, "batch", str(requests), f"{tmp_path}/out", "--endpoint", "e")
    assert result.exit_code == 1
    assert "not the output of an earlier run" in result.output
    assert (tmp_path / "out").read_bytes() == content
