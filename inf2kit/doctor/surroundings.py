"""What the checks look at: a preset, a region, an account, and what exists there; each is asked for once."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from inf2kit import aws, catalog
from inf2kit.doctor.finding import NotCheckedError
from inf2kit.errors import DeploymentError
from inf2kit.inventory import Inventory, scan_account
from inf2kit.presets import Preset

_Value = TypeVar("_Value")

#: Services that a rehearsal cloud has nothing of, though it may answer.
_NOT_REHEARSED = ("pricing", "ecr")
_CONNECT_S, _READ_S = 5, 20
#: The same for every check that needs an account, so that they share a line.
_NO_AWS = "AWS cannot be called"


@dataclass(frozen=True)
class Account:
    """Who calls AWS.

    Attributes:
        id: The account, 12 digits.
        arn: The caller.
    """

    id: str
    arn: str


class Surroundings:
    """What the checks of one report look at. Checks in several threads may share it.

    Args:
        preset: The preset that is to be deployed; None for a general look.
        preset_argument: How commands name it: its name, or the path of its file; its name by default.
        region: The region; boto3's own by default.
        offline: Whether neither AWS nor the hub is asked.
        packages: ``s3://BUCKET/PREFIX`` where packages are or will be.
        role: The ARN of an execution role.
        today: The day that dates are compared with; this day by default.
    """

    def __init__(
        self,
        *,
        preset: Preset | None = None,
        preset_argument: str = "",
        region: str | None = None,
        offline: bool = False,
        packages: str | None = None,
        role: str | None = None,
        today: dt.date | None = None,
    ) -> None:
        self.preset, self.offline, self.packages, self.role = preset, offline, packages, role
        self.preset_argument = preset_argument or (preset.name if preset else "")
        self.today = today or dt.datetime.now(dt.timezone.utc).date()
        self._region = region
        self._clients: dict[tuple[str, str], Any] = {}
        self._clients_lock = threading.Lock()
        self._session = _Once(lambda: aws.new_session(region_name=self._region))
        self._account = _Once(self._identify)
        self._inventory = _Once(lambda: scan_account(self.client, self.region))

    @property
    def is_deployment(self) -> bool:
        """Whether the preset is one for AWS."""
        return self.preset is not None and self.preset.compute.backend == "neuron"

    @property
    def asks_aws(self) -> bool:
        """Whether AWS is asked: not offline, and not for a preset of this machine."""
        return not self.offline and (self.preset is None or self.is_deployment)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The preset's instance type; without a preset, all of ml.inf2."""
        if self.preset is not None:
            return (self.preset.compute.instance_type,)
        return tuple(name for name in catalog.instances() if name.startswith("ml."))

    @property
    def same_again(self) -> str:
        """The command that looks at the same again."""
        region = f"--region {self._region}" if self._region else ""
        return " ".join(filter(None, ("inf2kit doctor", self.preset_argument, region)))

    @property
    def session(self) -> Any:
        """The boto3 session."""
        return self._session.get()

    @property
    def region(self) -> str:
        """The region.

        Raises:
            NotCheckedError: none is configured, or AWS's configuration cannot be read.
        """
        from botocore.exceptions import BotoCoreError

        try:
            region = self._region or self.session.region_name
        except BotoCoreError:  # the check of the identity says what is wrong
            raise NotCheckedError(_NO_AWS) from None
        if not region:
            raise NotCheckedError("no region is configured", "export AWS_REGION=us-east-1")
        return str(region)

    @property
    def account(self) -> Account:
        """The account that calls.

        Raises:
            NotCheckedError: AWS cannot be called; the message is the same for every check that needs it.
        """
        try:
            return self._account.get()
        except DeploymentError:
            raise NotCheckedError(_NO_AWS) from None

    def identify(self) -> Account:
        """Return the account that calls.

        Raises:
            DeploymentError: AWS cannot be called; the message says why, and what to try.
        """
        return self._account.get()

    @property
    def inventory(self) -> Inventory:
        """What exists of inf2kit in the region.

        Raises:
            NotCheckedError: AWS cannot be called.
        """
        _ = self.account
        return self._inventory.get()

    def credentials(self) -> Any:
        """Return botocore's credentials of the caller.

        Raises:
            NotCheckedError: AWS cannot be called.
        """
        _ = self.account
        with self._clients_lock:  # a session is not safe for threads
            return aws.load_credentials(self.session)

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a boto3 client that gives up within half a minute.

        Raises:
            NotCheckedError: a rehearsal cloud stands in for AWS, and has nothing of this service.
        """
        key = service, region or self.region
        with self._clients_lock:
            if key not in self._clients:
                self._clients[key] = aws.client(
                    service,
                    key[1],
                    session=self.session,
                    connect_timeout=_CONNECT_S,
                    read_timeout=_READ_S,
                    retries={"total_max_attempts": 2},
                )
            client = self._clients[key]
        if service in _NOT_REHEARSED and stand_in() == client.meta.endpoint_url.rstrip("/"):
            raise NotCheckedError(f"{stand_in()} stands in for AWS and has no {service}")
        return client

    def _identify(self) -> Account:
        try:
            with aws.translate_errors(DeploymentError, "asking AWS who calls"):
                region = self._region or self.session.region_name or "us-east-1"
                identity = self.client("sts", region).get_caller_identity()
        except RuntimeError as error:  # botocore's own about credentials of the environment
            if "expired" not in str(error):
                raise
            raise DeploymentError(
                "the credentials of the environment (AWS_CREDENTIAL_EXPIRATION) have expired; log in again"
            ) from None
        return Account(str(identity["Account"]), str(identity["Arn"]))


def stand_in() -> str:
    """Return the address that all of AWS is called at (``AWS_ENDPOINT_URL``); empty for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")


class _Once(Generic[_Value]):
    """A value that is computed once, by the first thread that asks; so is its exception."""

    def __init__(self, compute: Callable[[], _Value]) -> None:
        self._compute, self._lock = compute, threading.Lock()
        self._result: Future[_Value] = Future()

    def get(self) -> _Value:
        with self._lock:
            if not self._result.done():
                try:
                    self._result.set_result(self._compute())
                except Exception as error:
                    self._result.set_exception(error)
        return self._result.result()
