"""Who calls AWS, and until when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from inf2kit.doctor.finding import Finding, Status, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings, stand_in
from inf2kit.errors import DeploymentError

#: An endpoint with a large model takes most of an hour to come into service.
_ENOUGH = dt.timedelta(hours=1)


def caller(surroundings: Surroundings) -> Iterator[Finding]:
    """The account and the caller; the other checks of this group need them."""
    try:
        account = surroundings.identify()
    except DeploymentError as error:
        text, _, hint = str(error).partition("; ")
        if "needs AWS credentials" in text:
            # Rehearsals need no account; a deployment does.
            status = Status.PROBLEM if surroundings.is_deployment else Status.NOT_CHECKED
            command = "aws configure"
            yield Finding(status, "no AWS credentials were found", "set AWS_PROFILE, or make some", command)
            return
        command = "aws sso login" if "aws sso login" in hint else ""
        yield problem(text, hint, command)
        return
    text = f"account {account.id}, {account.arn}"
    if url := stand_in():
        yield ok(f"{text}; AWS_ENDPOINT_URL is {url}: it stands in for AWS")
    elif account.arn.endswith(":root"):
        yield advice(text, "this is the account's root user; use a role or a user of less power")
    else:
        yield ok(text)


def expiry(surroundings: Surroundings) -> Iterator[Finding]:
    """How long the credentials are valid."""
    credentials = surroundings.credentials()
    # botocore has no public name for it. Credentials that refresh themselves have one too.
    ends = getattr(credentials, "_expiry_time", None)
    if ends is None:
        yield ok("temporary, without a known end" if credentials.token else "they do not expire")
        return
    left = ends - dt.datetime.now(dt.timezone.utc)
    text = f"valid until {ends:%Y-%m-%d %H:%M} UTC ({_minutes(left)})"
    # Those of the environment cannot be refreshed.
    if credentials.method == "env" and left < _ENOUGH:
        yield advice(text, "a deployment may take longer; log in again first")
    else:
        yield ok(text)


def _minutes(left: dt.timedelta) -> str:
    minutes = int(left.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
