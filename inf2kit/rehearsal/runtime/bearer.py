"""SageMaker's bearer tokens, checked as AWS checks them.

A token is a presigned request for the action ``CallWithBearerToken``, which is never sent: a prefix, and the
base64 of its address without ``https://``. It is made by ``sagemaker.core.token_generator`` of the SageMaker
SDK or by ``inf2kit.client.bearer``. The check uses neither, nor botocore.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from inf2kit import aws
from inf2kit.client.local import REGION

PREFIX = "sagemaker-api-key-"
_HOST = "sagemaker.amazonaws.com"
_SERVICE = "sagemaker"
#: Fields of a token, besides ``X-Amz-Security-Token`` and the signature.
_FIELDS = {
    "Action": re.compile("CallWithBearerToken"),
    "X-Amz-Algorithm": re.compile("AWS4-HMAC-SHA256"),
    "X-Amz-Credential": re.compile("[^/]+/[0-9]{8}/[^/]+/[^/]+/[^/]+"),
    "X-Amz-Date": re.compile("[0-9]{8}T[0-9]{6}Z"),
    "X-Amz-Expires": re.compile("[0-9]{1,9}"),
    "X-Amz-SignedHeaders": re.compile("host"),
    "X-Amz-Signature": re.compile("[0-9a-f]{64}"),
    "Version": re.compile("1"),
}
_MAX_LIFETIME_S = 43_200
#: What the clocks of caller and AWS may differ by.
_CLOCK_SKEW = dt.timedelta(minutes=5)
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Secret:
    """What belongs to an access key id.

    Attributes:
        key: The secret access key.
        session_token: The session token of temporary credentials, or None.
    """

    key: str
    session_token: str | None = None


@dataclass(frozen=True)
class TokenCheck:
    """Checks bearer tokens for the endpoints of one region.

    Attributes:
        region: The region. Tokens of another one are refused, as by AWS.
        find_secret: Returns what belongs to an access key id; None for one that is not known here.
        advice: What a caller of the rehearsal can do about a token that is refused.
    """

    region: str
    find_secret: Callable[[str], Secret | None]
    advice: str

    def refusal(self, authorization: str | None, now: dt.datetime | None = None) -> str:
        """Say why a request is refused; empty if it is not.

        Args:
            authorization: The request's Authorization header.
            now: The time of the check; the present by default.
        """
        if authorization is None:
            return "it has no Authorization header"
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            return f"it is signed by {scheme[:20]!r}, and this route takes bearer tokens alone"
        try:
            return self._fault(token.strip(), now or dt.datetime.now(dt.timezone.utc))
        except ValueError:
            return "the token cannot be read"

    def _fault(self, token: str, now: dt.datetime) -> str:
        """What is wrong with a token, or an empty text.

        Raises:
            ValueError: it cannot be read.
        """
        if not token.startswith(PREFIX):
            return f"the token does not begin with {PREFIX}"
        query = _decode(token.removeprefix(PREFIX))
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        fields = dict(pairs)
        wanted = {*_FIELDS, *({"X-Amz-Security-Token"} & set(fields))}
        if len(pairs) != len(fields) or set(fields) != wanted:
            return "the token has other fields than a token of SageMaker"
        for name, pattern in _FIELDS.items():
            if not pattern.fullmatch(fields[name]):
                return f"the token's {name} is not that of a token of SageMaker"
        access_key, day, region, service, terminator = fields["X-Amz-Credential"].split("/")
        stamp = fields["X-Amz-Date"]
        if (service, terminator) != (_SERVICE, "aws4_request") or day != stamp[:8]:
            return "the token's X-Amz-Credential is not that of a token of SageMaker"
        if region != self.region:
            return f"the token is for {region[:40]}, and this endpoint is in {self.region}"
        secret = self.find_secret(access_key)
        if secret is None:
            return "the access key of the token is not known here"
        if fields.get("X-Amz-Security-Token") != secret.session_token:
            return "the session token is not that of the access key"
        unsigned = "&".join(
            pair for pair in query.split("&") if not pair.startswith(("X-Amz-Signature=", "Version="))
        )
        if not hmac.compare_digest(
            fields["X-Amz-Signature"], _signature(secret.key, region, stamp, unsigned)
        ):
            return "the signature does not match"
        return _time_fault(stamp, int(fields["X-Amz-Expires"]), now)


def _decode(encoded: str) -> str:
    """Return the query of a token.

    Raises:
        ValueError: it is no token.
    """
    try:
        address = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError from error
    host, _, query = address.partition("/?")
    if host != _HOST:
        raise ValueError
    return query


def _time_fault(stamp: str, lifetime_s: int, now: dt.datetime) -> str:
    signed = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.timezone.utc)
    if not 0 < lifetime_s <= _MAX_LIFETIME_S:
        return f"the token is valid for {lifetime_s} s, and {_MAX_LIFETIME_S} s are the most"
    if signed > now + _CLOCK_SKEW:
        return "the token is of the future; set your clock"
    return "the token has expired" if now > signed + dt.timedelta(seconds=lifetime_s) else ""


def _signature(secret: str, region: str, stamp: str, query: str) -> str:
    """Signature Version 4 of a presigned POST without a body, in hexadecimal digits."""
    canonical = "\n".join(
        ["POST", "/", "&".join(sorted(query.split("&"))), f"host:{_HOST}\n", "host", _EMPTY]
    )
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    key = f"AWS4{secret}".encode()
    for part in (stamp[:8], region, _SERVICE, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def _find_local_secret(access_key: str) -> Secret | None:
    return Secret(aws.LOCAL_KEY) if access_key == aws.LOCAL_KEY else None


#: The tokens of local endpoints, which are of nobody's account.
LOCAL_TOKENS = TokenCheck(
    REGION,
    _find_local_secret,
    "a local endpoint takes the tokens of Endpoint(NAME).openai(), or of the access key "
    f"'{aws.LOCAL_KEY}' with the secret '{aws.LOCAL_KEY}' in {REGION}",
)
