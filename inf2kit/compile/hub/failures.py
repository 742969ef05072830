"""What the hub's client raises, as sentences: where, what, and what to try."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Any

from inf2kit.compile.hub.client import HubUnreachableError, endpoint, load_client, timeout_s
from inf2kit.compile.hub.token import read_token, token_origin
from inf2kit.errors import CompileError

_TOKEN = re.compile(r"\b(hf|api_org)_\w+")
#: Exceptions of an answer that is not JSON, or has no header of the hub's.
_OTHER_ANSWERS = ("JSONDecodeError", "FileMetadataError")
_STATUS_PAGE = "https://status.huggingface.co"


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the hub's answer that an exception comes from; None if there is no answer."""
    response = _response(error)
    return None if response is None else int(response.status_code)


def header_of(error: BaseException, name: str) -> str:
    """Return a header of the hub's answer that an exception comes from, or an empty text."""
    response = _response(error)
    return "" if response is None else str(response.headers.get(name, ""))


def explain(error: Exception, model: str, revision: str | None, *, token: str | None = None) -> CompileError:
    """Turn an exception of the hub's client, or of what it uses, into a sentence.

    Args:
        error: The exception.
        model: The model's name on the hub.
        revision: The revision that was asked for.
        token: The token that was given, instead of the one that the user has logged in with.
    """
    if isinstance(error, CompileError):
        return error
    status = status_of(error)
    if status is None:
        return _explain_without_answer(error)
    return _explain_answer(error, status, model, revision, token)


def _explain_answer(
    error: Exception, status: int, model: str, revision: str | None, token: str | None
) -> CompileError:
    """Explain an answer of the hub that is an error."""
    page = f"{endpoint()}/{model}"
    code, reason = header_of(error, "x-error-code"), _server_message(error)
    has_token = bool(token or read_token())
    origin = "the one that was given" if token else token_origin()
    if code == "GatedRepo" and not has_token:
        return CompileError(
            f"{model} is gated: accept its licence at {page}, and set HF_TOKEN to a token of that account, "
            "or log in with 'hf auth login'"
        )
    if code == "GatedRepo":
        return CompileError(
            f"{model} is gated, and the account of your token ({origin}) may not read it: accept its licence "
            f"at {page} and wait until access is granted; a fine-grained token must allow gated repositories"
        )
    if status == 401 and has_token and code != "RepoNotFound":
        return CompileError(
            f"the Hugging Face hub refuses your token, {origin} ({reason}); make another at "
            f"{endpoint()}/settings/tokens"
        )
    if code == "RevisionNotFound":
        return CompileError(
            f"{model} has no revision {revision!r}; its branches, tags and commits are at {page}/tree/main"
        )
    if code == "EntryNotFound":
        return CompileError(f"{model} lacks a file ({reason}); see {page}/tree/main")
    if status in (401, 404):
        access = (
            f"that your token ({origin}) may read; check its name, or take a token of an account that may"
            if has_token
            else "that everybody may read; check its name, or set HF_TOKEN if it is private"
        )
        folder = "" if "/" in model else f"there is no folder {model!r} here, and "
        return CompileError(f"{folder}the Hugging Face hub has no model {model} {access}")
    if status == 403:
        return CompileError(
            f"the Hugging Face hub forbids access to {model} ({reason}); check what your token ({origin}) "
            "allows"
        )
    if status == 429:
        return HubUnreachableError(
            "the Hugging Face hub takes no more requests from here for now (429); wait some minutes"
            + ("" if has_token else ", or set HF_TOKEN: it allows more with a token")
        )
    if status >= 500:
        return HubUnreachableError(
            f"the Hugging Face hub at {endpoint()} has failed ({status}); see {_STATUS_PAGE}, and run the "
            "same command later, which continues from here"
        )
    return CompileError(f"the Hugging Face hub answers {status} to a question about {model}: {reason}")


def _explain_without_answer(error: Exception) -> CompileError:
    """Explain an exception that has no answer of the hub: the network, this machine's disk, or nonsense."""
    load_client()
    import requests

    hub = endpoint()
    for cause in _chain(error):
        text = str(cause)
        if isinstance(cause, requests.exceptions.InvalidHeader | UnicodeEncodeError):
            # The exception's own text has the token in it.
            return CompileError(
                f"the token ({token_origin()}) has characters that no token has; copy it again"
            )
        if isinstance(cause, KeyError | TypeError) or type(cause).__name__ in _OTHER_ANSWERS:
            return HubUnreachableError(
                f"{hub} answers with something else than the Hugging Face hub would; is a login page or a "
                "proxy between, or is HF_ENDPOINT wrong?"
            )
        if type(cause).__name__ == "OfflineModeIsEnabled":
            return HubUnreachableError("the Hugging Face hub is not called, as HF_HUB_OFFLINE is set")
        if isinstance(cause, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL):
            return CompileError(f"HF_ENDPOINT is {hub!r}; give an address such as https://huggingface.co")
        if isinstance(cause, requests.exceptions.SSLError):
            return CompileError(
                f"this machine does not trust the certificate of {hub}; if a proxy reads the traffic, set "
                "REQUESTS_CA_BUNDLE to its certificate"
            )
        if isinstance(cause, requests.exceptions.ProxyError):
            return HubUnreachableError(f"the proxy between here and {hub} fails; check HTTPS_PROXY")
        if isinstance(cause, requests.exceptions.Timeout):
            return HubUnreachableError(f"{hub} does not answer within {timeout_s():.0f} s; check the network")
        if isinstance(cause, requests.exceptions.ChunkedEncodingError):
            return HubUnreachableError(
                f"the connection to {hub} has ended in mid-download; the same command continues from here"
            )
        if isinstance(cause, requests.exceptions.ConnectionError | ConnectionError):
            refused = "refused" in text
            unknown = any(sign in text for sign in ("NameResolution", "Name or service", "getaddrinfo"))
            reason = (
                "it refuses the connection"
                if refused
                else "its name cannot be resolved"
                if unknown
                else "the connection fails"
            )
            return HubUnreachableError(
                f"{hub} cannot be reached: {reason}; check the network, or give --model the folder of a copy"
            )
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return CompileError(
                f"the disk is full ({cause.filename or 'while downloading'}); make room, or set HF_HOME to a "
                "folder on a larger disk"
            )
        if isinstance(cause, OSError) and cause.errno and cause.filename:
            return CompileError(
                f"{cause.filename} cannot be used ({cause.strerror}); set HF_HOME to a folder that you may "
                "write to"
            )
    return CompileError(f"the Hugging Face hub's client fails: {redact(_first_line(error))}")


def redact(text: str) -> str:
    """Return a text without tokens of the hub."""
    return _TOKEN.sub(r"\1_...", text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that it comes from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _response(error: BaseException) -> Any:
    responses = (getattr(cause, "response", None) for cause in _chain(error))
    return next((response for response in responses if response is not None), None)


def _server_message(error: Exception) -> str:
    """Return what the hub itself says about an error."""
    message = header_of(error, "x-error-message")
    if not message:
        message = str(getattr(error, "server_message", "") or "")
    return redact(message.partition("\n")[0].strip() or f"status {status_of(error)}").rstrip(".")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
