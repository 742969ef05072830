"""Who may call the cloud: whoever has its access key, which each cloud makes for itself.

Signatures are not computed. The key's id is random, and only its owner can read the file that it lies in; so
it is what another user of the machine does not know. It travels wherever AWS's clients put an id.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from inf2kit.serving.asgi import Receive, Scope, Send, answer, request_headers

_App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CREDENTIAL = re.compile(r"AWS4-\S+ (?=.*Signature=\w).*?Credential=([^/\s,]+)/")
#: moto's own API, which shows and forgets everything.
_MOTO = re.compile(r"/*moto-api(/.*)?", re.IGNORECASE)
#: What every presigned address has, in Signature Version 4.
_PRESIGNED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature")


def new_access_key() -> str:
    """An access key id that nobody can guess."""
    return f"REHEARSAL{secrets.token_hex(16).upper()}"


class Access:
    """An ASGI application that passes on only signed requests, and refuses the others as AWS does.

    Args:
        app: The application that answers what is passed on.
        access_key: The cloud's own access key id.
        issued: Whether an access key id was given out by the cloud itself, for a role or a user.
    """

    def __init__(self, app: _App, access_key: str, issued: Callable[[str], bool]) -> None:
        self._app, self._own, self._issued = app, access_key.encode(), issued

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with 403 where it has no credential of this cloud."""
        if _MOTO.fullmatch(scope["path"]):
            await answer(send, 404, b"", {})
            return
        headers = request_headers(scope)
        key = _access_key(headers, scope["query_string"].decode("latin-1"))
        if key is None or not (hmac.compare_digest(key.encode(), self._own) or self._issued(key)):
            kind, body = _refusal(headers, missing=key is None)
            code = {"x-amzn-errortype": "UnrecognizedClientException"} if b"__type" in body else {}
            await answer(send, 403, body, {"content-type": kind, **code})
            return
        await self._app(scope, receive, send)


def issued(access_key: str) -> bool:
    """Whether this process's moto has given an access key out."""
    from moto.iam.models import iam_backends

    return any(
        access_key in backend.access_keys
        for account in list(iam_backends.values())
        for backend in list(account.values())
    )


def _access_key(headers: Mapping[str, str], query: str) -> str | None:
    """The access key id of a request that is signed or presigned; forms and old signatures are neither."""
    if "authorization" in headers:
        signed = _CREDENTIAL.match(headers["authorization"])
        return signed[1] if signed else None
    fields = parse_qs(query)
    if any(len(fields.get(name, ())) != 1 for name in _PRESIGNED):
        return None
    return fields["X-Amz-Credential"][0].split("/")[0]


def _refusal(headers: Mapping[str, str], *, missing: bool) -> tuple[str, bytes]:
    """Content type and body in the form that the request's service uses."""
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
