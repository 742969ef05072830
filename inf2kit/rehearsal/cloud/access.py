"""Access control: only requests with the cloud's access key id are answered.

Signatures are not checked, except those of the bearer tokens of OpenAI's clients. Each cloud generates a
random access key id and writes it to a file that only its owner can read, so other users of the machine and
web pages do not know it. AWS's clients send the id with every signed request.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from inf2kit.rehearsal.runtime.bearer import Secret
from inf2kit.rehearsal.runtime.openai_route import is_openai_route
from inf2kit.serving.asgi import Receive, Scope, Send, answer, request_headers

_App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CREDENTIAL = re.compile(r"AWS4-\S+ (?=.*Signature=\w).*?Credential=([^/\s,]+)/")
#: moto's own API, which shows and resets all state.
_MOTO = re.compile(r"/*moto-api(/.*)?", re.IGNORECASE)
#: The query fields of every presigned URL of Signature Version 4.
_PRESIGNED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature")


def new_access_key() -> str:
    """Generate a random access key id."""
    return f"REHEARSAL{secrets.token_hex(16).upper()}"


class Access:
    """An ASGI application that passes on signed requests and refuses others as AWS does.

    Args:
        app: The application that answers accepted requests.
        access_key: The cloud's access key id.
        is_issued: Whether the cloud has issued an access key id, for a role or a user.
    """

    def __init__(self, app: _App, access_key: str, is_issued: Callable[[str], bool]) -> None:
        self._app, self._access_key, self._is_issued = app, access_key.encode(), is_issued

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; 403 if it has no credential of this cloud."""
        if _MOTO.fullmatch(scope["path"]):
            await answer(send, 404, b"", {})
            return
        if takes_bearer_token(scope):
            await self._app(scope, receive, send)  # the route checks its tokens itself
            return
        headers = request_headers(scope)
        key = _access_key(headers, scope["query_string"].decode("latin-1"))
        if key is None or not (hmac.compare_digest(key.encode(), self._access_key) or self._is_issued(key)):
            content_type, body = _refusal(headers, missing=key is None)
            error_type = {"x-amzn-errortype": "UnrecognizedClientException"} if b"__type" in body else {}
            await answer(send, 403, body, {"content-type": content_type, **error_type})
            return
        await self._app(scope, receive, send)


def takes_bearer_token(scope: Scope) -> bool:
    """Whether a request is for SageMaker's route for OpenAI's clients.

    A key in a bucket named ``endpoints`` may have the same path; it is signed for S3.
    """
    if not is_openai_route(scope["path"]):
        return False
    authorization = request_headers(scope).get("authorization", "")
    is_presigned = b"X-Amz-Signature=" in scope["query_string"]
    return not is_presigned and (not authorization.startswith("AWS4-") or "/sagemaker/" in authorization)


def is_issued(access_key: str) -> bool:
    """Whether moto has issued an access key id in this process."""
    return find_issued_secret(access_key) is not None


def find_issued_secret(access_key: str) -> Secret | None:
    """Return the secret, and for a role the session token, of an access key id that moto has issued."""
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    for account, backends in list(iam_backends.items()):
        for partition, backend in list(backends.items()):
            if key := backend.access_keys.get(access_key):
                role = sts_backends[account][partition].get_assumed_role_from_access_key(access_key)
                return Secret(key.secret_access_key, role.session_token if role else None)
    return None


def _access_key(headers: Mapping[str, str], query: str) -> str | None:
    """Return the access key id of a signed or presigned request; None for forms and older signatures."""
    if "authorization" in headers:
        signed = _CREDENTIAL.match(headers["authorization"])
        return signed[1] if signed else None
    fields = parse_qs(query)
    if any(len(fields.get(name, ())) != 1 for name in _PRESIGNED):
        return None
    return fields["X-Amz-Credential"][0].split("/")[0]


def _refusal(headers: Mapping[str, str], *, missing: bool) -> tuple[str, bytes]:
    """Return content type and body of a refusal, in the protocol of the request's service."""
    advice = 'in a rehearsal, run: eval "$(inf2kit cloud env)"'
    if "x-amz-target" in headers or "/sagemaker/" in headers.get("authorization", ""):
        code = "MissingAuthenticationTokenException" if missing else "UnrecognizedClientException"
        message = f"The request has no access key of this cloud; {advice}"
        body = {"__type": code, "message": message, "Message": message}
        return "application/x-amz-json-1.1", json.dumps(body).encode()
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        code = "MissingAuthenticationToken" if missing else "InvalidClientTokenId"
        fault = (
            f"<Code>{code}</Code><Message>The security token is not of this cloud; {escape(advice)}</Message>"
        )
        return (
            "text/xml",
            f"<ErrorResponse><Error><Type>Sender</Type>{fault}</Error></ErrorResponse>".encode(),
        )
    code = "AccessDenied" if missing else "InvalidAccessKeyId"
    message = f"The AWS Access Key Id you provided does not exist in our records; {escape(advice)}"
    if missing:
        message = f"Access Denied: the request is not signed; {escape(advice)}"
    return "application/xml", f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
