"""What a stack is told: typed, with defaults, and refused at synth where it makes no sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from inf2kit import catalog, names
from inf2kit.catalog import prices
from inf2kit.cdk import checks
from inf2kit.cdk.packages import DeployedPackage
from inf2kit.package import environment as container
from inf2kit.presets import Preset

_GB = 1e9
#: Seconds for any start, and for each gigabyte: a load over 24 cores takes 8 to 40 minutes.
_START_S, _START_S_PER_GB = 900, 90
_SPARE_GB = 20


@dataclass(frozen=True, kw_only=True)
class EndpointProps:
    """An endpoint of one preset.

    Attributes:
        preset: What it serves, and with which shapes.
        package: The model package.
        stage: Ends the names of stack, endpoint and parameter, so that one account has several of a preset.
        endpoint_name: The EndpointName; by default the preset's own, with the stage, and with ``-async``
            where that is meant, as SageMaker cannot make one kind of endpoint the other.
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
        volume_gb: Gigabytes of each instance's volume, at most 512.
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
        subnet_ids: Subnets of a VPC; with ``security_group_ids``.
        security_group_ids: Groups of that VPC; with ``subnet_ids``.
        data_capture_percent: Share of the calls whose content is kept in S3; 0 keeps nothing.
        data_capture_output: Where; a prefix in the package's bucket by default.
        alarm_email: An address that the alarms' topic writes to.
        max_errors_per_minute: Server errors that, within one minute, alarm and roll an update back.
        max_errors_percent: The least share of the calls that server errors must be for that. At this share
            in three of five minutes, any number of them alarms.
        idle_hours: Hours without a call after which the money alarm says what it costs.
        log_retention_days: How long the container's log is kept.
        log_removal: What happens to the log with the stack: ``destroy`` or ``retain``.
        log_kms_key_arn: A key for the log and the alarms' topic; its policy must allow both services.
    """

    preset: Preset
    package: DeployedPackage
    stage: str = ""
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
        name = self.endpoint_name or names.endpoint_name(preset.name, self.stage)
        if self.asynchronous and not self.endpoint_name:
            name = f"{name}-async"
        rows = preset.shapes.batch_size
        target = self.concurrent_calls + rows if self.asynchronous else 0.75 * rows
        defaults = {
            "endpoint_name": name,
            "instance_type": preset.compute.instance_type,
            "target_concurrency": max(1.0, target),
            "startup_timeout_s": start,
            "download_timeout_s": start,
            "volume_gb": math.ceil(self.least_volume_gb + _SPARE_GB),
            "async_output": f"{home}/inf2kit-async/{name}/",
            "data_capture_output": f"{home}/inf2kit-data-capture/{name}/",
        }
        for key, value in defaults.items():
            if not getattr(self, key):
                object.__setattr__(self, key, value)
        checks.check(self)

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
        price = prices.current().of(self.instance_type)
        return None if price is None else (price[0] * max(1, self.min_instances), price[1])

    @property
    def queue_size(self) -> int:
        """Prompts that may wait for a row."""
        return int(self.environment.get("INF2KIT_QUEUE_SIZE", self.preset.serving.queue_size))

    @property
    def least_volume_gb(self) -> float:
        """Gigabytes that the image and the model take."""
        return catalog.image().unpacked_gb + 1.2 * self.package.manifest.size / _GB
