"""A proxy for moto's S3 that is as strict as AWS where moto is not, and refuses calls on demand."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.servers import PATIENCE_S

ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Call:
    """A call of S3.

    Attributes:
        method: Such as ``PUT``.
        path: ``/bucket/key``.
        query: As in the URL.
        headers: By lower-case name.
        body: As sent.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


#: Return the error code of a call, or None to let moto answer.
Rule = Callable[[Call], str | None]


def require_owner(call: Call) -> str | None:
    """Refuse calls that do not name the expected bucket owner; S3 itself checks only a name that is given."""
    names = ["x-amz-expected-bucket-owner"]
    if "x-amz-copy-source" in call.headers:
        names.append("x-amz-source-expected-bucket-owner")
    return None if all(call.headers.get(name) == ACCOUNT for name in names) else "AccessDenied"


def require_sha256(call: Call) -> str | None:
    """Refuse uploads without the sha256 of their bytes; S3 itself accepts them."""
    if call.method != "PUT" or "x-amz-copy-source" in call.headers:
        return None
    expected = base64.b64encode(hashlib.sha256(call.body).digest()).decode()
    return None if call.headers.get("x-amz-checksum-sha256") == expected else "BadDigest"


def deny_listing_uploads(call: Call) -> str | None:
    """Act as for a role without s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts."""
    query = urllib.parse.parse_qs(call.query, keep_blank_values=True)
    listing = call.method == "GET" and ("uploads" in query or "uploadId" in query)
    return "AccessDenied" if listing else None


def deny_writes(call: Call) -> str | None:
    """Act as for a role without s3:PutObject, which multipart uploads need too."""
    query = urllib.parse.parse_qs(call.query, keep_blank_values=True)
    return "AccessDenied" if call.method == "PUT" or (call.method == "POST" and "uploads" in query) else None


class DemandEncryption:
    """Refuse writes as a bucket's policy does that denies s3:PutObject without an encryption header.

    A part has no such header: S3 takes that of its upload.
    """

    def __init__(self, method: str, key: str | None = None) -> None:
        self._headers = {"x-amz-server-side-encryption": method}
        if key:
            self._headers["x-amz-server-side-encryption-aws-kms-key-id"] = key
        self.written: list[str] = []

    def __call__(self, call: Call) -> str | None:
        query = urllib.parse.parse_qs(call.query, keep_blank_values=True)
        begins = call.method == "PUT" or (call.method == "POST" and "uploads" in query)
        if not begins or "uploadId" in query:
            return None
        if any(call.headers.get(name) != value for name, value in self._headers.items()):
            return "AccessDenied"
        self.written.append("copy" if "x-amz-copy-source" in call.headers else call.method)
        return None


class RefuseEndedUploads:
    """Refuse parts of a completed or aborted upload, as S3 does; moto fails with a 500."""

    def __init__(self) -> None:
        self._ended: set[str] = set()

    def __call__(self, call: Call) -> str | None:
        upload = urllib.parse.parse_qs(call.query).get("uploadId", [""])[0]
        if upload in self._ended and call.method in ("PUT", "POST"):
            return "NoSuchUpload"
        if upload and call.method in ("POST", "DELETE"):
            self._ended.add(upload)
        return None


@contextmanager
def strict_proxy(moto: str, *rules: Rule, targets: tuple[str, ...] = ()) -> Iterator[str]:
    """Start a proxy for moto, and return its address.

    Args:
        moto: Address of moto.
        rules: Applied to each call of S3.
        targets: Operations of JSON services to deny, named as in the X-Amz-Target header.
    """
    host = moto.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path, _, query = self.path.partition("?")
            call = Call(self.command, path, query, headers, body)
            codes = [code for rule in rules if path != "/" and (code := rule(call))]
            if headers.get("x-amz-target") in targets:
                self._deny()
                return
            if codes:
                self._refuse(codes[0])
                return
            connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
            sent = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def _deny(self) -> None:
            content = b'{"__type": "AccessDeniedException", "message": "refused"}'
            self.send_response_only(400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _refuse(self, code: str) -> None:
            content = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
            self.send_response_only({"AccessDenied": 403, "NoSuchUpload": 404}.get(code, 400))
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # whatever the method is
                return self._any
            raise AttributeError(name)

        def log_request(self, *_arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
