"""A server in place of SageMaker's runtime that answers wrongly, byte by byte, and counts what reaches it."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inf2kit.rehearsal.runtime import event_stream
from inf2kit.serving.wire import AnswerOptions, Generation, Token, response_writer
from tests.helpers.servers import PATIENCE_S

TEXTS = ["Once", " upon", " 你好", " 🙂"]
TEXT = "".join(TEXTS)
STREAM_TYPE = event_stream.CONTENT_TYPE

#: The request that a thread works on.
_request = threading.local()
#: A fault gets the connection and whether a stream was asked for.
Fault = Callable[[socket.socket, bool], None]


def head(status: int, content_type: str, length: int | None, **headers: str) -> bytes:
    """The head of a response; without a length, the body is chunked."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "x-amzn-requestid: id-1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def whole_body(text: str = TEXT) -> bytes:
    """The answer of an endpoint, by its own writer."""
    generation = Generation(text, "", "length", 3, len(TEXTS), seed=7)
    return json.dumps(response_writer(AnswerOptions("tgi", details="counts")).body([generation])).encode()


def records() -> list[bytes]:
    """The streamed answer of an endpoint, by its own writer."""
    writer = response_writer(AnswerOptions("tgi"))
    tokens = [Token(number, text, -0.5, special=False) for number, text in enumerate(TEXTS)]
    generation = Generation(TEXT, "", "length", 3, len(TEXTS), seed=7)
    parts = [
        record
        for index, token in enumerate(tokens[:-1], 1)
        for record in writer.token_records(0, index, token)
    ]
    return parts + writer.last_records(0, len(tokens), tokens[-1], generation)


def frames() -> list[bytes]:
    return [event_stream.encode_payload_part(record) for record in records()]


def answer(connection: socket.socket, is_stream: bool) -> None:
    """What an endpoint answers."""
    if is_stream:
        connection.sendall(head(200, STREAM_TYPE, None))
        for frame in frames():
            connection.sendall(chunk(frame))
        connection.sendall(chunk(b""))
    else:
        body = whole_body()
        connection.sendall(head(200, "application/json", len(body)) + body)


def answer_and_leave(connection: socket.socket, is_stream: bool) -> None:
    """What an endpoint answers, whose connection does not wait for a further call."""
    answer(connection, is_stream)
    raise LeftError(reset=False)


def echo(connection: socket.socket, is_stream: bool) -> None:
    """Answer with the prompt."""
    body = whole_body(read_prompt())
    connection.sendall(head(200, "application/json", len(body)) + body)


def read_prompt() -> str:
    """The prompt of this thread's request."""
    return str(json.loads(_request.body)["inputs"])


def read_request() -> tuple[dict[str, str], bytes]:
    """The headers, by lower-case name, and the body of this thread's request."""
    return _request.headers, _request.body


def refuse(status: int, code: str, body: object, **headers: str) -> Fault:
    """Answer with an error, whole or streamed."""

    def fault(connection: socket.socket, is_stream: bool) -> None:
        content = json.dumps(body).encode()
        codes = {"x_amzn_errortype": code} if code else {}
        connection.sendall(head(status, "application/json", len(content), **codes, **headers) + content)

    return fault


def container_error(status: int, message: object, sentence: str = "m") -> Fault:
    original = message if isinstance(message, str) else json.dumps(message)
    body = {"Message": sentence, "OriginalStatusCode": status, "OriginalMessage": original}
    return refuse(424, "ModelError", body)


class LeftError(Exception):
    """A fault closes the connection: with a reset, or as any server does."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


def reset_before_the_answer(connection: socket.socket, is_stream: bool) -> None:
    raise LeftError(reset=True)


def reset_in_the_middle(connection: socket.socket, is_stream: bool) -> None:
    if is_stream:
        connection.sendall(head(200, STREAM_TYPE, None) + chunk(frames()[0]))
    else:
        body = whole_body()
        connection.sendall(head(200, "application/json", len(body)) + body[:20])
    time.sleep(0.5)  # or the reset would overtake the bytes
    raise LeftError(reset=True)


def half_a_frame(connection: socket.socket, is_stream: bool) -> None:
    if is_stream:
        connection.sendall(head(200, STREAM_TYPE, None) + chunk(frames()[0]) + chunk(frames()[1][:20]))
        connection.sendall(chunk(b""))
    else:
        body = whole_body()[:-9]
        connection.sendall(head(200, "application/json", len(body)) + body)


def ends_too_early(connection: socket.socket, is_stream: bool) -> None:
    """A stream whose last event is missing; an answer that is shorter than its length says."""
    if is_stream:
        connection.sendall(head(200, STREAM_TYPE, None))
        connection.sendall(b"".join(map(chunk, frames()[:-1])) + chunk(b""))
    else:
        body = whole_body()
        connection.sendall(head(200, "application/json", len(body) + 7) + body)
        raise LeftError(reset=False)


def goes_on_too_long(connection: socket.socket, is_stream: bool) -> None:
    """An answer that is longer than its length says; a stream with bytes after its end."""
    if is_stream:
        answer(connection, is_stream)
        connection.sendall(b"nonsense")
    else:
        body = whole_body()
        connection.sendall(head(200, "application/json", len(body) - 7) + body)


def model_stream_error(connection: socket.socket, is_stream: bool) -> None:
    if is_stream:
        error = event_stream.encode_model_stream_error("the model went away", "StreamBroken")
        connection.sendall(head(200, STREAM_TYPE, None) + chunk(frames()[0]) + chunk(error) + chunk(b""))
    else:
        container_error(500, {"error": "the model went away", "error_type": "internal_error"})(
            connection, False
        )


def no_answer(connection: socket.socket, is_stream: bool) -> None:
    """Nothing until the caller goes."""
    connection.settimeout(PATIENCE_S)
    with contextlib.suppress(OSError):
        connection.recv(1)


def drip(connection: socket.socket, is_stream: bool) -> None:
    """A byte now and then, each of them in time."""
    if is_stream:
        content = chunk(b"".join(frames()))
        connection.sendall(head(200, STREAM_TYPE, None))
    else:
        content = whole_body()
        connection.sendall(head(200, "application/json", len(content)))
    with contextlib.suppress(OSError):
        for at in range(len(content)):
            connection.sendall(content[at : at + 1])
            time.sleep(0.05)


def wrong_content_type(connection: socket.socket, is_stream: bool) -> None:
    """The right bytes, by a proxy that calls them something else."""
    if is_stream:
        connection.sendall(head(200, "text/plain", None))
        connection.sendall(b"".join(map(chunk, frames())) + chunk(b""))
    else:
        body = whole_body()
        connection.sendall(head(200, "text/plain", len(body)) + body)


def html_page(connection: socket.socket, is_stream: bool) -> None:
    body = b"<html><body>Please log in to the hotel's network</body></html>"
    connection.sendall(head(200, "text/html", len(body)) + body)


def html_error(connection: socket.socket, is_stream: bool) -> None:
    body = b"<html><body>502 Bad Gateway</body></html>"
    connection.sendall(head(502, "text/html", len(body)) + body)


def redirect(connection: socket.socket, is_stream: bool) -> None:
    connection.sendall(head(302, "text/html", 0, location="/elsewhere"))


TIMED_OUT = (
    'Received server error (0) from primary with message "Your invocation timed out while waiting for a '
    'response from container primary."'
)
#: Every fault, by the name that the docs give it.
FAULTS: dict[str, Fault] = {
    "throttled: 400 with a null message": refuse(400, "ThrottlingException", {"message": None}),
    "throttled: 400 with a null message and no code": refuse(400, "", {"message": None}),
    "503 of SageMaker": refuse(503, "ServiceUnavailable", {"Message": "m"}),
    "ModelNotReady": refuse(429, "ModelNotReadyException", {"Message": "m"}),
    "503 of the container": container_error(503, {"error": "loading", "error_type": "unavailable"}),
    "429 of the container": container_error(429, {"error": "the queue is full", "error_type": "queue_full"}),
    "422 of the container": container_error(422, {"error": "no", "error_type": "invalid_parameter"}),
    "500 of the container": container_error(500, {"error": "no", "error_type": "internal_error"}),
    "the container took 60 s": container_error(0, "", TIMED_OUT),
    "403: the credentials do not allow it": refuse(403, "AccessDeniedException", {"Message": "m"}),
    "reset before the answer": reset_before_the_answer,
    "reset in the middle": reset_in_the_middle,
    "half a frame, half a JSON": half_a_frame,
    "ends before its end": ends_too_early,
    "longer than its length says": goes_on_too_long,
    "ModelStreamError": model_stream_error,
    "no answer": no_answer,
    "a slow drip": drip,
    "another content type": wrong_content_type,
    "an HTML page": html_page,
    "502 with an HTML page": html_error,
    "a redirect": redirect,
}


class FaultServer(socketserver.ThreadingTCPServer):
    """Answers each endpoint by the faults that its name was given, in turn; the last one stays.

    Attributes:
        requests: How many requests reached the server, by endpoint.
        opened: How many connections were opened.
        closed: How many of them it has closed.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.tls = tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"
        self.plans: dict[str, list[Fault]] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.opened = self.closed = 0

    def fault(self, name: str) -> Fault:
        with self.lock:
            self.requests[name] += 1
            plan = self.plans.get(name, [answer])
            return plan.pop(0) if len(plan) > 1 else plan[0]

    def shutdown_request(self, request: object) -> None:
        """Close at once: a shutdown before it would send an end instead of a reset."""
        self.close_request(request)  # type: ignore[arg-type]
        with self.lock:
            self.closed += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers leave in the middle; that is what is tested."""


class _Connection(socketserver.BaseRequestHandler):
    server: FaultServer

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        with self.server.lock:
            self.server.opened += 1
        with self.request.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().decode().strip()) != "":
                    key, _, value = header.partition(":")
                    headers[key.lower()] = value.strip()
                _request.headers = headers
                _request.body = stream.read(int(headers.get("content-length", 0)))
                path = line.split()[1].decode()
                name = path.split("/")[2] if path.count("/") > 2 else path
                try:
                    self.server.fault(name)(self.request, path.endswith("-response-stream"))
                except LeftError as left:
                    if left.reset:
                        linger = struct.pack("ii", 1, 0)
                        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return


@contextmanager
def fault_server(tls: ssl.SSLContext | None = None) -> Iterator[FaultServer]:
    """Serve on a free port until the context ends, by TLS if there is something for it."""
    with FaultServer(tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
