"""A double of AWS services with JSON bodies, for what neither moto nor the rehearsal cloud has.

Its answers are those that a test writes; an operation without one is denied, as AWS denies it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_DENIED = b"<Error><Code>AccessDenied</Code><Message>refused by the double</Message></Error>"
#: An answer: its body, a function of the request's body, or an exception as ``Refusal``.
Answer = Any


@dataclass(frozen=True)
class Refusal:
    """An error with which a service answers."""

    code: str
    message: str = "refused by the double"


@dataclass
class AwsDouble:
    """Answers by operation, such as ``GetServiceQuota``, and the requests so far."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[AwsDouble]:
        """Serve until the end of the block."""
        handler = type("Handler", (_Handler,), {"double": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    double: AwsDouble
    server_version = "inf2kit-aws-double"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if "X-Amz-Target" not in self.headers:  # a service with XML, such as CloudFormation
            self._send(403, "text/xml", b"<ErrorResponse>" + _DENIED + b"</ErrorResponse>")
            return
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        request = json.loads(content)
        self.double.requests.append((operation, request))
        answer = self.double.answers.get(operation, Refusal("AccessDeniedException"))
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        status = 200
        if isinstance(answer, Refusal):
            status, answer = 400, {"__type": answer.code, "message": answer.message}
        self._send(status, "application/x-amz-json-1.1", json.dumps(answer).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""
