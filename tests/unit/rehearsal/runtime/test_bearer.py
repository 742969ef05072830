"""Bearer tokens: which ones the rehearsal takes, and that nothing else gets past it."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from inf2kit.client.bearer import sign_token
from inf2kit.rehearsal.runtime.bearer import Secret, TokenCheck

REGION, PREFIX = "eu-west-1", "sagemaker-api-key-"
SECRETS = {"PLAIN": Secret("one"), "ROLE": Secret("two", "a+b/c==")}
CHECK = TokenCheck(REGION, SECRETS.get, "advice")


def token(key: str = "PLAIN", region: str = REGION, lifetime_s: int = 900, **other: str | None) -> str:
    """A token, signed now; with another secret or session token than the key's own, if they are given."""
    values = {"secret": SECRETS[key].key, "session_token": SECRETS[key].session_token, **other}
    credentials = Credentials(key, values["secret"], values["session_token"])
    return sign_token(credentials.get_frozen_credentials(), region, lifetime_s)


def changed(old: str, new: str) -> str:
    """A good token whose address is changed."""
    address = base64.b64decode(token().removeprefix(PREFIX)).decode()
    assert old in address
    return encoded(address.replace(old, new).encode())


def encoded(address: bytes) -> str:
    """A token with this address."""
    return PREFIX + base64.b64encode(address).decode()


def today() -> dt.datetime:
    """The present, in UTC."""
    return dt.datetime.now(dt.timezone.utc)


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_of_a_known_key_is_taken(key: str, scheme: str) -> None:
    assert CHECK.refusal(f"{scheme} {token(key)}") == ""
    assert CHECK.refusal(f"{scheme} {token(key, lifetime_s=43_200)}", today() + dt.timedelta(hours=11)) == ""


#: How a token is wrong, and what the refusal says. Made when a test runs, as tokens expire.
WRONG: dict[str, tuple[Callable[[], str], str]] = {
    "another region": (
        lambda: token(region="us-east-1"),
        "the token is for us-east-1, and this endpoint is in eu-west-1",
    ),
    "more after its end": (lambda: token() + "AAAA", "cannot be read"),
    "a role without its session token": (lambda: token("ROLE", session_token=None), "session token"),
    "another session token": (lambda: token("ROLE", session_token="other"), "session token"),  # noqa: S106
    "a session token too many": (lambda: token(session_token="other"), "session token"),  # noqa: S106
    "an unknown key": (lambda: changed("PLAIN", "NOBODY"), "access key of the token is not known"),
    "another secret": (lambda: token(key="PLAIN", secret="other"), "signature does not match"),  # noqa: S106
    "a longer life": (lambda: changed("Expires=900", "Expires=9000"), "signature does not match"),
    "a later date": (lambda: changed(f"Date={today():%Y}", "Date=9999"), "Credential is not"),
    "another version": (lambda: changed("Version=1", "Version=2"), "Version is not"),
    "no version": (lambda: changed("&Version=1", ""), "other fields"),
    "a field too many": (lambda: changed("&Version=1", "&Version=1&More=1"), "other fields"),
    "a field twice": (lambda: changed("&Version=1", "&Version=1&Version=1"), "other fields"),
    "another action": (lambda: changed("CallWithBearerToken", "DeleteEndpoint"), "Action is not"),
    "other headers": (lambda: changed("Headers=host", "Headers=host%3Bx"), "SignedHeaders is not"),
    "another host": (lambda: changed("sagemaker.amazonaws.com", "sts.amazonaws.com"), "cannot be read"),
    "another service": (lambda: changed("%2Fsagemaker%2F", "%2Fs3%2F"), "Credential is not"),
    "no time zone": (lambda: changed("Z&", "&"), "Date is not"),
    "a prefix alone": (lambda: PREFIX, "cannot be read"),
    "no fields": (lambda: encoded(b"sagemaker.amazonaws.com/?"), "other fields"),
    "no text": (lambda: encoded(b"\xff\xfe"), "cannot be read"),
    "no base64": (lambda: PREFIX + "!!!!", "cannot be read"),
    "a key of OpenAI's": (lambda: "sk-of-openai", "does not begin with sagemaker-api-key-"),
    "nothing": (lambda: "", "does not begin with sagemaker-api-key-"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_these_tokens_are_refused(fault: str) -> None:
    make, reason = WRONG[fault]
    assert reason in CHECK.refusal(f"Bearer {make()}")


@pytest.mark.parametrize(
    ("lifetime_s", "minutes", "reason"),
    [
        (900, 16, "expired"),
        (900, -6, "of the future; set your clock"),
        (43_201, 0, "43200 s are the most"),
        (0, 0, "43200 s are the most"),
    ],
)
def test_a_token_is_taken_in_its_time_alone(lifetime_s: int, minutes: int, reason: str) -> None:
    assert reason in CHECK.refusal(
        f"Bearer {token(lifetime_s=lifetime_s)}", today() + dt.timedelta(minutes=minutes)
    )


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "no Authorization header"),
        ("", "takes bearer tokens alone"),
        ("AWS4-HMAC-SHA256 Credential=PLAIN/20260101/eu-west-1/sagemaker/aws4_request, Signature=0", "alone"),
        ("Basic bG9jYWw6bG9jYWw=", "takes bearer tokens alone"),
        (PREFIX, "takes bearer tokens alone"),
    ],
)
def test_other_ways_to_sign_are_refused(header: str | None, reason: str) -> None:
    assert reason in CHECK.refusal(header)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_byte_passes_and_none_raises(data: st.DataObject) -> None:
    good = bytearray(base64.b64decode(token("ROLE").removeprefix(PREFIX)))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[place]))
    assert CHECK.refusal(f"Bearer {encoded(bytes(good))}")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_refused_by_a_sentence(garbage: str | bytes) -> None:
    address = garbage if isinstance(garbage, bytes) else quote(garbage).encode()
    for value in (f"Bearer {garbage!r}", f"Bearer {encoded(address)}", repr(garbage)):
        assert CHECK.refusal(value)
