"""moto as an ASGI application: it answers every service and operation that this package does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

#: Concurrent calls of the control plane. Each stack that waits for its endpoint makes calls of its own.
_WORKERS = 32


def build_app() -> Any:
    """Build the application, on moto as it is patched at that time."""
    from a2wsgi import WSGIMiddleware
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def refuse_unsupported(environ: Any, start_response: Any) -> Iterable[bytes]:
        """Refuse what moto lacks; its exception would be status 500, which clients retry."""
        try:
            response: Iterable[bytes] = moto(environ, start_response)
        except NotImplementedError as error:
            content_type, content = _unsupported(environ, str(error))
            start_response("400 Bad Request", [("content-type", content_type)])
            return [content]
        return response

    return WSGIMiddleware(refuse_unsupported, workers=_WORKERS)


def _unsupported(environ: Any, reason: str) -> tuple[str, bytes]:
    """Content type and body of a refusal, in the protocol of the request."""
    message = f"{reason.rstrip('.')} in this rehearsal."
    if "HTTP_X_AMZ_TARGET" in environ:
        error = {"__type": "UnsupportedOperationException", "message": message}
        return "application/x-amz-json-1.1", json.dumps(error).encode()
    xml = f"<Error><Code>UnsupportedOperation</Code><Message>{escape(message)}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()
