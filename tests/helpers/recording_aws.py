"""A server in place of all of AWS: it writes down who calls which service in which region, and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

#: Of a signature, which every call of boto3 has: access key, day, region, service.
_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
_JSON_ERROR = '{"__type": "AccessDeniedException", "Message": "no"}'
_XML_ERROR = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"


@dataclass(frozen=True)
class Call:
    """One call: the caller's access key, the service, the region of its signature, and the body."""

    access_key: str
    service: str
    region: str
    body: str


@dataclass
class RecordingAws:
    """All calls so far, and answers by service; a service without one refuses the call."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    def regions(self) -> dict[str, str]:
        """Return the region of each service's last call."""
        return {call.service: call.region for call in self.calls}


@contextmanager
def recording_aws() -> Iterator[RecordingAws]:
    """Serve on a free port; boto3 gets there by ``AWS_ENDPOINT_URL``."""
    aws = RecordingAws()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            scope = _SCOPE.search(self.headers.get("Authorization", ""))
            assert scope, "boto3 signs every call"
            aws.calls.append(Call(scope[1], scope[3], scope[2], body))
            answer = aws.answers.get(scope[3])
            error = _XML_ERROR if scope[3] in ("s3", "sts") else _JSON_ERROR
            content = (error if answer is None else json.dumps(answer)).encode()
            self.send_response(200 if answer is not None else 403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815 - their names in the library

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    aws.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
