"""Named records and tags: how SageMaker stores, lists and tags models, configurations and endpoints."""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError

Request = Mapping[str, Any]
Response = dict[str, Any]

_PAGE = 10
_SUMMARY_TIMES = ("CreationTime", "LastModifiedTime")


class Tags:
    """The tags of all resources, by ARN."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, str]] = {}

    def set(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add tags to a resource, or change their values."""
        if tags:
            self._tags.setdefault(arn, {}).update(tags)

    def set_requested(self, arn: str, request: Request) -> None:
        """Add the tags of a request to a resource."""
        self.set(arn, {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])})

    def get(self, arn: str) -> list[dict[str, str]]:
        """Return a resource's tags, ordered by key."""
        return [{"Key": key, "Value": value} for key, value in sorted(self._tags.get(arn, {}).items())]

    def delete(self, arn: str, keys: Iterable[str]) -> None:
        """Delete tags of a resource."""
        for key in keys:
            self._tags.get(arn, {}).pop(key, None)

    def forget(self, arn: str) -> None:
        """Delete all tags of a deleted resource."""
        self._tags.pop(arn, None)


class Records:
    """The stored requests of one kind of resource, by name.

    Args:
        noun: The resource in operations and fields, such as ``EndpointConfig``.
        kind: The resource in ARNs, such as ``endpoint-config``.
        arn_prefix: The ARN up to the kind.
        tags: The tags of all resources.
    """

    def __init__(self, noun: str, kind: str, arn_prefix: str, tags: Tags) -> None:
        self._noun, self._kind, self._arn_prefix, self._tags = noun, kind, arn_prefix, tags
        self._name, self._arn = f"{noun}Name", f"{noun}Arn"
        self._records: dict[str, dict[str, Any]] = {}

    def new_arn(self, request: Request) -> str:
        """The ARN of a resource that is to be created.

        Raises:
            AwsError: a resource of this name exists, in whatever case.
        """
        arn = f"{self._arn_prefix}:{self._kind}/{request[self._name].lower()}"
        if arn in self.arns():
            raise AwsError("ValidationException", f'Cannot create already existing {self._kind} "{arn}".')
        return arn

    def add(self, arn: str, request: Request) -> Response:
        """Store a request."""
        fields = {key: value for key, value in request.items() if key != "Tags"}
        self._records[request[self._name]] = {**fields, self._arn: arn, "CreationTime": utc_now()}
        self._tags.set_requested(arn, request)
        return {self._arn: arn}

    def get(self, name: str) -> dict[str, Any]:
        """Return a stored request.

        Raises:
            AwsError: there is no resource of this name.
        """
        if name not in self._records:
            arn = f"{self._arn_prefix}:{self._kind}/{name.lower()}"
            raise AwsError("ValidationException", f'Could not find {self._kind} "{arn}".')
        return self._records[name]

    def arns(self) -> set[str]:
        """The ARNs of all resources of the kind."""
        return {str(record[self._arn]) for record in self._records.values()}

    def find(self, name: str) -> dict[str, Any]:
        """Return a stored request; empty if it was deleted."""
        return self._records.get(name, {})

    def describe(self, request: Request) -> Response:
        """Answer a Describe operation."""
        return self.get(request[self._name])

    def list_page(self, request: Request) -> Response:
        """Answer a List operation."""
        return summarize(f"{self._noun}s", self._noun, self._records.values(), request)

    def delete(self, request: Request) -> Response:
        """Answer a Delete operation."""
        record = self.get(request[self._name])
        del self._records[request[self._name]]
        self._tags.forget(record[self._arn])
        return {}


def summarize(plural: str, noun: str, records: Iterable[Mapping[str, Any]], request: Request) -> Response:
    """One page of summaries; the newest first unless the request says otherwise."""
    pattern = f"*{request.get('NameContains', '')}*"
    matching = [record for record in records if fnmatch.fnmatch(record[f"{noun}Name"], pattern)]
    newest_first = str(request.get("SortOrder", "Descending")) == "Descending"
    matching.sort(key=lambda record: record["CreationTime"], reverse=newest_first)
    start, size = int(request.get("NextToken") or 0), int(request.get("MaxResults", _PAGE))
    summaries = [
        {key: value for key, value in record.items() if key in _SUMMARY_TIMES or key.startswith(noun)}
        for record in matching[start : start + size]
    ]
    page: Response = {plural: summaries}
    if start + size < len(matching):
        page["NextToken"] = str(start + size)
    return page


def utc_now() -> dt.datetime:
    """The present time, aware of its zone."""
    return dt.datetime.now(dt.timezone.utc)
