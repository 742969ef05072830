"""The gateway between doubles of the engine and of the model server: what bad callers and engines do."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from inf2kit.errors import unavailable
from inf2kit.serving.engine import protocol
from inf2kit.serving.engine.events import (
    AcceptedEvent,
    DoneEvent,
    EndEvent,
    ErrorEvent,
    StatusEvent,
    TokenEvent,
    encode_event,
)
from inf2kit.serving.gateway.gateway import Gateway
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import Heartbeat
from inf2kit.serving.wire import Generation, Token, parse_request
from tests.helpers.servers import PATIENCE_S, free_port, ping, wait_until

DEADLINE_S = 2.0
#: Connections that the gateway takes at most, and the open files that it leaves for the rest.
MOST, OTHER_FILES = 100, 256
MANIFEST = {
    "format": 1,
    "preset": {
        "model": {"id": "inf2kit/simulated"},
        "shapes": {"batch_size": 2, "sequence_length": 2048},
        "compute": {"backend": "simulated", "dtype": "float32"},
        "serving": {"queue_size": 2, "deadline_s": DEADLINE_S},
    },
}
_Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
X = Token(id=1, text="x", logprob=None, special=False)
MESSAGES = [{"role": "user", "content": "breaks"}]


class Doubles:
    """An engine and a model server, on sockets in a folder, which do what a prompt asks for.

    Attributes:
        given_up: Calls whose connection the gateway closed before their end.
        received: Bodies that came to the model server.
    """

    def __init__(self, folder: Path) -> None:
        self.given_up = 0
        self.received: list[bytes] = []
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve)
        self._engine_ended = asyncio.Event()

    def end_engine(self) -> None:
        """End the engine, as far as the gateway can tell: its state is not told any more."""
        self._loop.call_soon_threadsafe(self._engine_ended.set)

    def __enter__(self) -> Doubles:
        self._thread.start()
        wait_until((self._folder / "model-server.sock").exists, "the doubles listen")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        for name, answer in (("engine", self._engine), ("model-server", self._model_server)):
            answer = _until_it_is_closed(answer)
            path = str(self._folder / f"{name}.sock")
            self._loop.run_until_complete(asyncio.start_unix_server(answer, path, limit=protocol.MAX_LINE))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _engine(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = protocol.decode_call(await reader.readline())
        if call.op == "status":
            if not self._engine_ended.is_set():
                writer.write(encode_event(StatusEvent("ready", longest_token=12)))
            await self._engine_ended.wait()
        elif call.op == "generate":
            await self._generate(cast("dict[str, Any]", call.body), reader, writer)
        else:
            writer.write(encode_event(DoneEvent()))

    async def _generate(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = parse_request(body, max_prompts=4)
        writer.write(encode_event(AcceptedEvent(request.form, n=request.parameters.n, texts=request.texts)))
        prompt = _prompt(body)
        token = Token(id=1, text="x" * 50_000, logprob=None, special=False)
        if prompt == "breaks":
            writer.write(encode_event(TokenEvent(0, 1, X)))
            writer.write(encode_event(ErrorEvent.from_error(unavailable("it broke"))))
            await writer.drain()
        if prompt == "ends":
            for choice in reversed(range(request.texts)):
                end = EndEvent(choice, 1, X, Generation(f"x{choice}", "", "length", 3, 1))
                writer.write(encode_event(end))
            writer.write(encode_event(DoneEvent()))
            await writer.drain()
        index = 0
        try:
            while prompt == "for ever":
                index += 1
                writer.write(encode_event(TokenEvent(0, index, token)))
                await writer.drain()
            await reader.read()
        finally:
            self.given_up += 1

    async def _model_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            self.received.append(await reader.readexactly(length))
            prompt = _prompt(json.loads(self.received[-1]))
            body = b"x" * 16_000_000 if prompt == "large" else b"[]"
            kind = b"text/plain" if prompt == "plain" else b"application/json"
            head_lines = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
            writer.write(head_lines % (kind, len(body)) + body)


def _prompt(body: dict[str, Any]) -> object:
    """What a call asks the doubles to do."""
    return body.get("inputs") or body.get("prompt") or body["messages"][0]["content"]


def _until_it_is_closed(answer: _Answer) -> _Answer:
    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await answer(reader, writer)
        writer.close()

    return answered


@dataclass
class Running:
    """A gateway between its doubles."""

    port: int
    process: psutil.Process
    doubles: Doubles
    log_file: Path

    def log(self) -> str:
        """What the gateway has written."""
        return self.log_file.read_text(encoding="utf-8")

    def request(self, body: object, length: int | None = None) -> bytes:
        """A call's bytes."""
        sent = json.dumps(body, ensure_ascii=False).encode()
        head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        return f"{head}Content-Length: {length or len(sent)}\r\n\r\n".encode() + sent

    def connect(self, *, receive_bytes: int = 0) -> socket.socket:
        connection = socket.socket()
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def status_of(self, body: object) -> int:
        """The status that a body is answered with, which may be JSON already."""
        return self.post(body)[0]

    def post(self, body: object, path: str = "/invocations") -> tuple[int, bytes]:
        """The status and the answer to a body, which may be JSON already."""
        status, _, answer = self.send("POST", path, body)
        return status, answer

    def send(
        self, method: str, path: str, body: object = b"", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """The status, the headers and the body of an answer."""
        sent = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def connections(self) -> int:
        """Open TCP connections of the gateway."""
        return len([connection for connection in self.process.net_connections("tcp") if connection.raddr])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A gateway of its own for each test, which a test may end."""
    (tmp_path / "inf2kit.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as name:
        folder, port = Path(name), free_port()
        (folder / "opened").touch()  # so that no generation has to go through first
        environment = {
            **os.environ,
            "INF2KIT_RUN_DIR": name,
            "INF2KIT_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
            "MMS_INFERENCE_ADDRESS": f"unix:{folder}/model-server.sock",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
            "PYTHONPATH": "inference",
        }
        command = [
            "prlimit",
            f"--nofile={MOST + OTHER_FILES}",
            sys.executable,
            "-m",
            "inf2kit.serving.gateway.gateway",
            str(tmp_path),
        ]
        log = tmp_path / "log"
        with (
            Doubles(folder) as doubles,
            log.open("wb") as written,
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=written, stderr=written
            ) as process,
        ):
            wait_until(lambda: ping(port) == 200, "the gateway is ready")
            yield Running(port, psutil.Process(process.pid), doubles, log)
            process.kill()


def closed(connection: socket.socket) -> bool:
    """Whether the gateway has closed a connection on which it has answered nothing."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_slow_readers_keep_no_turn(running: Running, figure: Callable[[str], None]) -> None:
    """Two callers hold both turns and read nothing: a third one is answered when their time is over."""
    began = time.monotonic()
    with ExitStack() as stack:
        for _ in range(2):
            reader = stack.enter_context(contextlib.closing(running.connect(receive_bytes=4096)))
            reader.sendall(running.request({"inputs": "for ever", "stream": True}))
        wait_until(lambda: running.doubles.given_up == 2, "the engine's rows are free")
        figure(f"two slow readers: their rows were free after {time.monotonic() - began:.1f} s")
        wait_until(lambda: running.connections() == 0, "their connections are closed")
        assert running.status_of({"inputs": "x"}) == 200
    assert "without completing response" not in running.log()


def test_an_engine_that_never_ends_a_stream_is_left_at_the_deadline(
    running: Running, figure: Callable[[str], None]
) -> None:
    """Its tokens come faster than they are read, so there is always one: the answer ends all the same."""
    began, last = time.monotonic(), b""
    with contextlib.closing(running.connect()) as caller:
        caller.sendall(running.request({"inputs": "for ever", "stream": True}))
        while part := caller.recv(10_000):
            last = last[-1000:] + part
            if last.endswith(b"0\r\n\r\n"):
                break
            assert time.monotonic() - began < PATIENCE_S, "it does not end"
    figure(f"a stream without an end was ended after {time.monotonic() - began:.1f} s")
    assert b'"error_type": "unavailable"' in last or b'"error_type":"unavailable"' in last


def test_an_answer_that_nobody_reads_does_not_stay(running: Running) -> None:
    """16 MB lie in the gateway's memory; a transport that closes would wait for their reader for ever."""
    with contextlib.closing(running.connect(receive_bytes=4096)) as caller:
        caller.sendall(running.request({"inputs": "large"}))
        wait_until(lambda: running.connections() == 1, "the caller is there")
        wait_until(lambda: running.connections() == 0, "its connection is closed")


def test_bodies_that_drip_keep_nobody_out(running: Running) -> None:
    """As many connections as there may be, all in the middle of a body: the oldest one makes room."""
    with ExitStack() as stack:
        dripping = []
        for _ in range(MOST + 40):
            connection = stack.enter_context(contextlib.closing(running.connect()))
            connection.sendall(running.request({"inputs": "x"}, 1000))
            dripping.append(connection)
        wait_until(lambda: sum(map(closed, dripping)) >= 40, "those that are too many are closed")
        assert [ping(running.port) for _ in range(10)] == [200] * 10


def test_a_call_whose_body_is_coming_is_not_lost_by_sigterm(running: Running) -> None:
    body = running.request({"inputs": "x"})
    with contextlib.closing(running.connect()) as caller:
        caller.sendall(body[:-3])
        wait_until(lambda: running.connections() == 1, "the call has begun")
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: ping(running.port) != 200, "the gateway ends")
        time.sleep(3.0)  # longer than uvicorn waits for what it does not know
        caller.sendall(body[-3:])
        assert caller.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert running.process.wait(PATIENCE_S) == 0


def test_a_large_body_reaches_the_model_server_no_larger(running: Running) -> None:
    """The model server has the gateway's limit, and six bytes for each letter would be beyond it."""
    body = {"inputs": ["\u0436" * 20_000] * 3}
    assert running.status_of(body) == 200
    assert (
        running.doubles.received[-1] == json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    )
    broken = json.dumps({**body, "half \ud83d": 1}).encode()
    assert running.status_of(broken) == 200


def test_a_text_of_any_length_is_taken_if_its_end_is_asked_for(running: Running) -> None:
    """The body has more bytes than four rows of 2,048 tokens of at most 12 characters can have."""
    body = {"inputs": "word " * 400_000}
    status, answer = running.post(body)
    assert (status, json.loads(answer)["error_type"]) == (413, "body_too_large")
    assert running.status_of({**body, "parameters": {"truncate": 100}}) == 200
    assert len(running.doubles.received) == 1


def test_whole_answers_and_errors_end_with_a_newline(running: Running) -> None:
    """Also those of a handler that a user has written, if they are JSON."""
    assert running.post({"inputs": "x"}) == (200, b"[]\n")
    assert running.post({"inputs": "plain"}) == (200, b"[]")
    for body in (b"{", {}, {"inputs": ""}, {"messages": []}, {"prompt": ""}):
        status, answer = running.post(body)
        assert status in (400, 422)
        assert answer.endswith(b"}\n")


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/invocations", {"inputs": "breaks"}),
        ("/invocations", {"messages": MESSAGES}),
        ("/invocations", {"prompt": "breaks"}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": "breaks"}),
    ],
)
def test_every_error_has_the_schema_of_its_request(
    running: Running, path: str, question: dict[str, Any]
) -> None:
    def code_of(answer: bytes) -> str:
        error = json.loads(answer)
        return str(error["error_type"] if "inputs" in question else error["error"]["code"])

    status, answer = running.post({**question, "top_p": 2}, path)
    assert (status, code_of(answer)) == (422, "invalid_parameter")
    status, stream = running.post({**question, "stream": True}, path)
    assert status == 200
    *records, last = stream.removesuffix(b"\n\n").split(b"\n\n")
    assert records, "it breaks in the middle"
    assert code_of(last.removeprefix(b"data: ")) == "unavailable"
    running.doubles.end_engine()
    wait_until(lambda: ping(running.port) == 503, "the gateway knows it")
    status, headers, answer = running.send("POST", path, question)
    assert (status, code_of(answer), headers["retry-after"]) == (503, "unavailable", "1")


def test_openais_routes_have_openais_answers(running: Running) -> None:
    """Also where the body tells nothing, or the path is none."""
    for path, question in (("chat/completions", {"messages": MESSAGES}), ("completions", {"prompt": "x"})):
        assert running.post(question, f"/v1/{path}") == (200, b"[]\n")
    for method, path, body, status, code in (
        ("POST", "chat/completions", b"{", 400, "invalid_json"),
        ("POST", "chat/completions", [], 400, "invalid_body"),
        ("POST", "chat/completions", {"inputs": "x"}, 400, "invalid_body"),
        ("POST", "completions", {"messages": MESSAGES}, 400, "invalid_body"),
        ("POST", "completions", {}, 400, "missing_inputs"),
        ("POST", "embeddings", {"input": "x"}, 404, "not_found"),
        ("GET", "chat/completions", b"", 404, "not_found"),
        ("PUT", "completions", {"prompt": "x"}, 404, "not_found"),
    ):
        answered, _, answer = running.send(method, f"/v1/{path}", body)
        error = json.loads(answer)["error"]
        assert (answered, error["code"]) == (status, code), path
        assert set(error) == {"message", "type", "param", "code"}
    status, answer = running.post(b"<page>", "/v1/completions")
    assert (status, json.loads(answer)["error"]["code"]) == (400, "invalid_json")
    status, _, answer = running.send("POST", "/v1/completions", b"x", **{"Content-Type": "text/plain"})
    assert (status, json.loads(answer)["error"]["code"]) == (415, "unsupported_content_type")
    status, _, answer = running.send(
        "POST", "/v1/completions", {"prompt": "x"}, Origin="https://evil.example"
    )
    assert status == 403, "a web page can call no port of its machine"
    models = json.loads(running.send("GET", "/v1/models")[2])
    assert [model["id"] for model in models["data"]] == ["inf2kit/simulated"]


def test_a_stream_of_several_texts_ends_after_the_last_of_them(running: Running) -> None:
    body = {"prompt": "ends", "n": 2, "stream": True, "temperature": 1}
    status, stream = running.post(body)
    assert status == 200
    *records, last = stream.removesuffix(b"\n\n").split(b"\n\n")
    assert last == b"data: [DONE]"
    choices = [json.loads(record.removeprefix(b"data: "))["choices"][0] for record in records]
    ends = [choice["index"] for choice in choices if choice["finish_reason"]]
    assert ends == [1, 0]


def test_the_port_stays_closed_while_an_engine_is_missing() -> None:
    """The first of two engines has answered, and ends while the second one loads."""

    async def run(folder: Path) -> None:
        (folder / "inf2kit.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
        environ = {
            "INF2KIT_RUN_DIR": str(folder / "run"),
            "MMS_INFERENCE_ADDRESS": f"unix:{folder / 'model-server.sock'}",
        }
        settings = replace(Settings.read(folder, environ), engines=2)
        gateway = Gateway(settings, [Heartbeat.create() for _ in range(2)])
        first, second = gateway.router.engines
        answered: list[int] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                answered.append(int(head.partition(b"x-inf2kit-engine:")[2].split()[0]))
                if answered == [0, 1]:
                    gateway.router.report(first, "down")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")

        server = await asyncio.start_unix_server(answer, str(folder / "model-server.sock"))
        for engine in (first, second):
            gateway.router.report(engine, "ready")
        waiting = asyncio.ensure_future(gateway.wait_for_generations())
        await asyncio.wait({waiting}, timeout=1)
        assert answered == [0, 1]
        assert not waiting.done()
        gateway.router.report(first, "ready")
        await asyncio.wait_for(waiting, PATIENCE_S)
        assert answered == [0, 1, 0, 1]
        server.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
