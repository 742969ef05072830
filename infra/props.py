"""What a stack is told: typed, with defaults, and refused at synth where it makes no sense."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from inf2kit import container, facts
from inf2kit.errors import DeploymentError, PackageError, PresetError
from inf2kit.home import ENDPOINT_NAME
from inf2kit.presets import Preset
from inf2kit.prices import current
from infra.packages import DeployedPackage

_GB = 1e9
#: Seconds for any start, and for each gigabyte: a load over 24 cores takes 8 to 40 minutes.
_START_S, _START_S_PER_GB = 900, 90
#: Slower than any volume: what a start must be allowed at the least.
_LEAST_START_S, _LEAST_START_S_PER_GB = 60, 10
_SPARE_GB = 20
#: Retentions that CloudWatch Logs takes.
_RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545),
    *(731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
#: Fewest instances that an update may split: a canary is at most half of them, a batch a quarter.
ROLLOUTS = {"all_at_once": 1, "canary": 2, "rolling": 4}
#: SageMaker ends an asynchronous invocation after an hour.
_ASYNC_LIMIT_S = 3600
#: What a call may take beyond its deadline, until its answer is in S3.
ASYNC_MARGIN_S = 60
#: Variables of the engine that may be chosen; the others are inf2kit's own affair.
_TUNABLE = (
    *("INF2KIT_PREFILLS_PER_STEP", "INF2KIT_QUEUE_SIZE"),
    *("INF2KIT_STALL_SECONDS", "INF2KIT_TORCH_THREADS"),
)
#: Bytes of a preset's own texts: a template's Description has 1,024, a stack's name 128 characters.
_LONGEST_DESCRIPTION, _LONGEST_NAME = 1000, 100
#: Options that name a key.
KEYS = ("kms_key_arn", "package_kms_key_arn", "log_kms_key_arn")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class EndpointProps:
    """An endpoint of one preset.

    Attributes:
        preset: What it serves, and with which shapes.
        package: The model package.
        endpoint_name: The EndpointName; by default the preset's own, with ``-async`` where that is meant, as
            SageMaker cannot make one kind of endpoint the other.
        instance_type: One of the preset's; its default by default.
        min_instances: Fewest instances. Only an asynchronous endpoint may have 0.
        max_instances: Most instances; more than the fewest makes it scale.
        scalable: Whether the variant is registered with Application Auto Scaling. SageMaker refuses another
            instance type while it is.
        target_concurrency: Texts inside an instance, running or waiting, that scaling aims at; three quarters
            of the rows by default. For an asynchronous endpoint, calls per instance that run or wait in S3;
            by default a full instance and as many waiting as it has rows.
        scale_out_cooldown_s: Seconds between two additions.
        scale_in_cooldown_s: Seconds between two removals; long, as the next load takes minutes.
        startup_timeout_s: Seconds the container has until ``/ping`` says 200, 60..3600.
        download_timeout_s: Seconds the model may take to come from S3, 60..3600.
        volume_gb: Of each instance, at most 512.
        rollout: How an update exchanges instances: ``all_at_once``, ``canary`` (from two instances on) or
            ``rolling`` (a quarter at a time, from four on).
        rollback: Whether alarms undo an update. False lets a mend through to an endpoint that is in alarm.
        network_isolation: Whether the container has no network and no credentials.
        environment: Variables beside the ones that inf2kit sets, such as ``INF2KIT_QUEUE_SIZE``.
        asynchronous: Whether calls come and answers go by S3, for generations past 60 s.
        async_output: Where their answers go; a prefix in the package's bucket by default.
        async_deadline_s: Seconds a call may take there; beyond 840 callers must pass
            ``InvocationTimeoutSeconds``, as SageMaker's own default is 900.
        bucket_owner: The account that owns the package's bucket; the deploying one by default.
        package_kms_key_arn: The key that the package's bucket is encrypted with.
        kms_key_arn: A customer-managed key for the volume and for what the endpoint writes to S3.
        subnet_ids: Of a VPC; with ``security_group_ids``.
        security_group_ids: Of a VPC; with ``subnet_ids``.
        data_capture_percent: Share of the calls whose content is kept in S3; 0 keeps nothing.
        data_capture_output: Where; a prefix in the package's bucket by default.
        alarm_email: An address that the alarms' topic writes to.
        max_errors_per_minute: Server errors that, within one minute, alarm and roll an update back.
        max_errors_percent: The least share of the calls that server errors must be for that. At this share
            in three of five minutes, any number of them alarms.
        idle_hours: Hours without a call after which the money alarm says what it costs.
        log_retention_days: Of the container's log.
        log_removal: What happens to the log with the stack: ``destroy`` or ``retain``.
        log_kms_key_arn: A key for the log and the alarms' topic; its policy must allow both services.
    """

    preset: Preset
    package: DeployedPackage
    endpoint_name: str = ""
    instance_type: str = ""
    min_instances: int = 1
    max_instances: int = 1
    scalable: bool = True
    target_concurrency: float = 0.0
    scale_out_cooldown_s: int = 60
    scale_in_cooldown_s: int = 900
    startup_timeout_s: int = 0
    download_timeout_s: int = 0
    volume_gb: int = 0
    rollout: str = "all_at_once"
    rollback: bool = True
    network_isolation: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    asynchronous: bool = False
    async_output: str = ""
    async_deadline_s: int = 840
    bucket_owner: str = ""
    package_kms_key_arn: str = ""
    kms_key_arn: str = ""
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    data_capture_percent: int = 0
    data_capture_output: str = ""
    alarm_email: str = ""
    max_errors_per_minute: int = 5
    max_errors_percent: int = 5
    idle_hours: int = 2
    log_retention_days: int = 30
    log_removal: str = "destroy"
    log_kms_key_arn: str = ""

    def __post_init__(self) -> None:
        preset, size_gb = self.preset, self.package.manifest.size / _GB
        start = min(3600, _START_S + math.ceil(_START_S_PER_GB * size_gb))
        home = f"s3://{self.package.bucket}"
        name = self.endpoint_name or preset.endpoint_name + ("-async" if self.asynchronous else "")
        rows = preset.shapes.batch_size
        target = self.concurrent_calls + rows if self.asynchronous else 0.75 * rows
        defaults = {
            "endpoint_name": name,
            "instance_type": preset.compute.instance_type,
            "target_concurrency": max(1.0, target),
            "startup_timeout_s": start,
            "download_timeout_s": start,
            "volume_gb": math.ceil(self._least_volume_gb() + _SPARE_GB),
            "async_output": f"{home}/inf2kit-async/{name}/",
            "data_capture_output": f"{home}/inf2kit-data-capture/{name}/",
        }
        for key, value in defaults.items():
            if not getattr(self, key):
                object.__setattr__(self, key, value)
        self._check()

    @property
    def variables(self) -> dict[str, str]:
        """The container's environment."""
        deadline_s = float(self.async_deadline_s) if self.asynchronous else None
        return {
            **container.environment(self.preset, deadline_s=deadline_s),
            # What the engine must find in the package that it loads.
            "INF2KIT_PACKAGE_DIGEST": self.package.manifest.digest,
            **self.environment,
        }

    @property
    def concurrent_calls(self) -> int:
        """Calls that SageMaker sends to one instance of an asynchronous endpoint at a time."""
        # Enough that every row is taken, and the next call waits at the door.
        return self.preset.shapes.batch_size + 1

    @cached_property
    def usd_per_hour(self) -> tuple[float, str] | None:
        """Dollars an hour of the fewest instances (of one, where there may be none), and their region."""
        found = current().of(self.instance_type)
        return None if found is None else (found[0] * max(1, self.min_instances), found[1])

    @property
    def queue_size(self) -> int:
        """Prompts that may wait for a row."""
        return int(self.environment.get("INF2KIT_QUEUE_SIZE", self.preset.serving.queue_size))

    def _least_volume_gb(self) -> float:
        return facts.image().unpacked_gb + 1.2 * self.package.manifest.size / _GB

    def _check(self) -> None:
        preset = self.preset
        if preset.compute.backend != "neuron":
            raise self._wrong("preset", preset.name, "one for Neuron; this one runs on this machine only")
        try:
            preset.on(self.instance_type)
            self.package.manifest.check_fits(preset, facts.image().tag)
        except (PackageError, PresetError) as error:
            raise DeploymentError(str(error)) from None
        if not ENDPOINT_NAME.fullmatch(self.endpoint_name):
            raise self._wrong("endpoint_name", self.endpoint_name, "up to 63 letters, digits and single '-'")
        self._check_fleet()
        self._check_times()
        self._check_environment()
        self._check_options()
        self._check_keys()
        self._check_texts()
        # A file of prices that cannot be read is said now, and not in the middle of a stack.
        _ = self.usd_per_hour

    def _check_fleet(self) -> None:
        least = 0 if self.asynchronous else 1
        self._within("min_instances", least, 100)
        self._within("max_instances", max(1, self.min_instances), 100)
        self._one_of("rollout", tuple(ROLLOUTS))
        if max(1, self.min_instances) < ROLLOUTS[self.rollout]:
            raise self._wrong(
                "rollout", self.rollout, f"all_at_once with fewer than {ROLLOUTS[self.rollout]} min_instances"
            )
        # Beyond the rows texts wait in each instance; an asynchronous backlog waits in S3.
        self._within("target_concurrency", 1, 10_000 if self.asynchronous else self.preset.shapes.batch_size)
        self._within("scale_out_cooldown_s", 0, 3600)
        self._within("scale_in_cooldown_s", 0, 86_400)

    def _check_times(self) -> None:
        size_gb = self.package.manifest.size / _GB
        least = math.ceil(_LEAST_START_S + _LEAST_START_S_PER_GB * size_gb)
        for name in ("startup_timeout_s", "download_timeout_s"):
            self._within(name, 60, 3600)
            if getattr(self, name) < least:
                raise self._wrong(
                    name, getattr(self, name), f"at least {least} for {size_gb:.1f} GB of model"
                )
        self._within("volume_gb", math.ceil(self._least_volume_gb()), 512)
        self._within("async_deadline_s", 1, _ASYNC_LIMIT_S - ASYNC_MARGIN_S)
        self._within("idle_hours", 1, 24)
        self._within("max_errors_per_minute", 1, 10_000)
        self._within("max_errors_percent", 1, 100)
        self._one_of("log_retention_days", _RETENTIONS)
        self._one_of("log_removal", ("destroy", "retain"))

    def _check_environment(self) -> None:
        own = container.environment(self.preset)
        for name, value in self.environment.items():
            if not _VARIABLE.fullmatch(name):
                raise self._wrong(f"environment {name}", value, "named by letters, digits and '_'")
            if name in own or (name.startswith("INF2KIT_") and name not in _TUNABLE):
                raise self._wrong(
                    f"environment {name}", value, f"left out: inf2kit sets it; free are {', '.join(_TUNABLE)}"
                )
            if name in _TUNABLE and not (value.isdecimal() and (int(value) or name == "INF2KIT_QUEUE_SIZE")):
                raise self._wrong(f"environment {name}", value, "a whole number")
            if re.search("token|secret|password|credential|_key(_id)?$", name, re.IGNORECASE):
                raise self._wrong(
                    f"environment {name}",
                    "...",
                    "left out: a Model's environment can be read by many; use a package",
                )
        for name, value in self.variables.items():
            if len(name.encode()) > 1024 or len(value.encode()) > 1024:
                raise self._wrong(f"environment {name}", f"{len(value)} characters", "at most 1,024 bytes")
        if len(self.variables) > 100:
            raise self._wrong("environment", f"{len(self.variables)} variables", "at most 100")

    def _check_options(self) -> None:
        self._within("data_capture_percent", 0, 100)
        if bool(self.subnet_ids) != bool(self.security_group_ids):
            raise self._wrong("subnet_ids", self.subnet_ids, "given together with security_group_ids")
        for name, pattern in (("subnet_ids", "subnet-[0-9a-f]+"), ("security_group_ids", "sg-[0-9a-f]+")):
            for value in getattr(self, name):
                if not re.fullmatch(pattern, value):
                    raise self._wrong(name, value, f"such as {pattern.partition('[')[0]}0123456789abcdef0")
        if self.alarm_email and "@" not in self.alarm_email:
            raise self._wrong("alarm_email", self.alarm_email, "an address")
        for name in ("async_output", "data_capture_output"):
            value = getattr(self, name)
            if not re.fullmatch(r"s3://[^/]+/.+/", value):
                raise self._wrong(name, value, "s3://BUCKET/PREFIX/")
            if self.package.uri.startswith(value) or value.startswith(self.package.uri):
                raise self._wrong(name, value, "outside the package, which never changes")

    def _check_keys(self) -> None:
        arns = {name: getattr(self, name) for name in KEYS if getattr(self, name)}
        for name, value in arns.items():
            if not re.fullmatch(r"arn:[\w-]+:kms:[\w-]+:\d{12}:key/.+", value):
                raise self._wrong(name, value, "the ARN of a key (an alias cannot be granted)")
        # A key works in its own region only, which is the stack's.
        places = {name: value.split(":")[1:4:2] for name, value in arns.items()}
        for name, place in places.items():
            first = next(iter(places))
            if place != places[first]:
                raise self._wrong(name, arns[name], f"in the region of {first}, {':'.join(places[first])}")
        if self.bucket_owner and not re.fullmatch(r"\d{12}", self.bucket_owner):
            raise self._wrong("bucket_owner", self.bucket_owner, "an account of 12 digits")

    def _check_texts(self) -> None:
        """What a preset of one's own says ends in a template, whose texts are limited."""
        for name, text, most in (
            ("name", self.preset.name, _LONGEST_NAME),
            ("description", self.preset.description, _LONGEST_DESCRIPTION),
        ):
            if len(text.encode()) > most:
                raise self._wrong(name, f"{text[:20]}...", f"at most {most} bytes")

    def _one_of(self, name: str, allowed: tuple[object, ...]) -> None:
        if getattr(self, name) not in allowed:
            raise self._wrong(name, getattr(self, name), f"one of {', '.join(map(str, allowed))}")

    def _within(self, name: str, low: float, high: float) -> None:
        if not low <= getattr(self, name) <= high:
            raise self._wrong(name, getattr(self, name), f"within {low:g}..{high:g}")

    def _wrong(self, name: str, value: object, allowed: str) -> DeploymentError:
        return DeploymentError(f"endpoint of {self.preset.name!r}: {name} is {value!r}; it must be {allowed}")
