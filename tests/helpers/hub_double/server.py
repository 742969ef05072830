"""The double's server: who may call, what goes wrong, and what each call has sent."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.hub_double.answers import Answer, Request, answer_call
from tests.helpers.hub_double.faults import Fault
from tests.helpers.hub_double.repositories import Account, Repository


@dataclass
class Call:
    """A call that the double has had.

    Attributes:
        method: Such as ``GET``.
        path: Without the query.
        headers: By lower-case name.
        status: Of the answer.
        sent: Bytes of the body that were sent.
    """

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        """The range that was asked for."""
        return self.headers.get("range")


@dataclass
class HubDouble:
    """The state of the double, which a test fills and reads.

    Attributes:
        url: The address that ``HF_ENDPOINT`` takes.
        repositories: By name.
        accounts: By token.
        faults: What goes wrong with the next calls.
        calls: All calls, in the order of their beginning.
        renamed: Names of repositories by the names that they had before.
        objects: LFS objects by their sha256, as clients have sent them.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        """Add a repository with one commit."""
        repository = Repository(name, **options)
        repository.commit(files)
        self.repositories[name] = repository
        return repository

    def clear(self) -> None:
        """Forget everything."""
        for fault in self.faults:
            if fault.hold:
                fault.hold.set()
        for part in (self.repositories, self.accounts, self.faults, self.calls, self.renamed, self.objects):
            part.clear()

    def calls_of(self, method: str, end: str) -> list[Call]:
        """Return the calls of one method to paths of one end."""
        return [call for call in self.calls if call.method == method and call.path.endswith(end)]

    @contextmanager
    def serving(self) -> Iterator[HubDouble]:
        """Serve until the end of the block."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.clear()
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubDouble
    protocol_version = "HTTP/1.1"
    server_version = "inf2kit-hub-double"

    def _handle(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, url.path, headers)
        self.hub.calls.append(call)
        body = self.rfile.read(int(headers.get("content-length", 0)))
        faults = self.hub.faults
        fault = next((fault for fault in faults if fault.applies(f"{self.command} {url.path}")), None)
        if fault and fault.hold and fault.cut_after is None:
            fault.hold.wait()
        if fault and fault.status:
            result = Answer(fault.status, dict(fault.headers), fault.body)
        else:
            query = dict(urllib.parse.parse_qsl(url.query))
            result = answer_call(self.hub, Request(self.command, url.path, query, headers, body))
        try:
            self._send(call, result, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815 - http.server's names

    def _send(self, call: Call, result: Answer, fault: Fault | None) -> None:
        content = result.body
        if fault and fault.spoil:
            content = bytes(2 * len(content))
        call.status = result.status
        self.send_response(result.status)
        for name, value in result.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        part = content if fault is None or fault.cut_after is None else content[: fault.cut_after]
        self.wfile.write(part)
        self.wfile.flush()
        call.sent = len(part)
        if len(part) < len(content):
            if fault and fault.hold:
                fault.hold.wait()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
