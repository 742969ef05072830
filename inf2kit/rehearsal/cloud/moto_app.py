"""moto as an ASGI application: it answers every service and operation that this package does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

#: Concurrent calls of the control plane. Each stack that waits for its endpoint makes calls of its own.
_WORKERS = 32


def build_app(log: Callable[[str], None]) -> Any:
    """Build the application, on moto as it is patched at that time.

    Args:
        log: Writes a line to the cloud's log.
    """
    from a2wsgi import WSGIMiddleware
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def refuse_failures(environ: Any, start_response: Any) -> Iterable[bytes]:
        """Refuse what moto lacks or fails at; its exception would be status 500, which clients retry."""
        try:
            response: Iterable[bytes] = moto(environ, start_response)
        except NotImplementedError as error:
            message = f"{str(error).rstrip('.')} in this rehearsal."
            content_type, content = _refusal(environ, "UnsupportedOperation", message)
        except Exception as error:
            message = f"The rehearsal itself failed: {type(error).__name__}: {error}"
            log(f"{environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}: {message}")
            content_type, content = _refusal(environ, "InternalFailure", message)
        else:
            return response
        start_response("400 Bad Request", [("content-type", content_type)])
        return [content]

    return WSGIMiddleware(refuse_failures, workers=_WORKERS)


def _refusal(environ: Any, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of a refusal, in the protocol of the request."""
    if "HTTP_X_AMZ_TARGET" in environ:
        error = {"__type": f"{code}Exception", "message": message}
        return "application/x-amz-json-1.1", json.dumps(error).encode()
    xml = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()
