"""The props of an endpoint: typed, with defaults, and checked when they are created."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from inf2kit import catalog, names
from inf2kit.catalog.prices import hourly_price
from inf2kit.deployment import checks
from inf2kit.deployment.package import DeployedPackage
from inf2kit.package import environment as container
from inf2kit.presets import Preset
from inf2kit.serving import variables
from inf2kit.serving.model_dir import PACKAGE_DIGEST

_GB = 1e9
#: Seconds allowed for a start, plus seconds per gigabyte: loading a model over 24 NeuronCores takes 8 to 40
#: minutes.
_START_S, _START_S_PER_GB = 900, 90
_SPARE_GB = 20
#: Seconds that SageMaker waits for a container, or for a download, at most.
LONGEST_START_S = 3600
#: Stands for a default that depends on the preset or the package, where 0 would be a value.
_COMPUTED: Any = None


@dataclass(frozen=True, kw_only=True)
class EndpointProps:
    """The props of an endpoint that serves one preset.

    Attributes:
        preset: The model, its shapes and its instance types.
        package: The model package to serve.
        stage: A suffix for the names of stack, endpoint and parameter, so that one account can have several
            endpoints of a preset.
        endpoint_name: The EndpointName. Default: the preset's name with the stage, and ``-async`` for an
            asynchronous endpoint, because SageMaker cannot change the kind of an existing endpoint.
        instance_type: One of the preset's instance types. Default: the preset's own default.
        min_instances: The fewest instances. Only an asynchronous endpoint may have 0.
        max_instances: The most instances. The endpoint scales if this is more than ``min_instances``.
        scalable: Whether the variant is registered with Application Auto Scaling. SageMaker refuses to change
            the instance type of a registered variant.
        target_concurrency: The load of an instance that scaling aims at. Real-time: texts that run or wait in
            an instance; default: three quarters of the batch size. Asynchronous: calls per instance that run
            or wait in S3; default: a full instance and one batch more.
        scale_out_cooldown_s: Seconds between two additions of instances.
        scale_in_cooldown_s: Seconds between two removals. The default is long, as a load takes minutes.
        startup_timeout_s: Seconds until the container's ``/ping`` must answer 200, 60..3600.
        download_timeout_s: Seconds that the download of the model from S3 may take, 60..3600.
        volume_gb: Gigabytes of each instance's volume, at most 512.
        rollout: How an update replaces instances: ``all_at_once``, ``canary`` (at least two instances) or
            ``rolling`` (a quarter at a time, at least four instances).
        rollback: Whether alarms roll an update back. Set false to fix an endpoint that is in alarm.
        network_isolation: Whether the container has neither network nor credentials.
        environment: Environment variables besides those that inf2kit sets, such as ``INF2KIT_QUEUE_SIZE``.
        asynchronous: Whether requests and answers go through S3, for generations that take more than 60 s.
        async_output: The ``s3://BUCKET/PREFIX/`` of requests and answers. Default: a prefix in the package's
            bucket.
        async_deadline_s: Seconds that an asynchronous call may take. Above 840 callers must pass
            ``InvocationTimeoutSeconds``, as SageMaker's default is 900.
        bucket_owner: The account that owns the package's bucket. Default: the deploying account.
        package_kms_key_arn: The key that the package's bucket is encrypted with.
        kms_key_arn: A customer-managed key for the volume and for everything the endpoint writes to S3.
        subnet_ids: Subnets of a VPC; needs ``security_group_ids``.
        security_group_ids: Security groups of that VPC; needs ``subnet_ids``.
        data_capture_percent: The percentage of calls that SageMaker captures to S3; 0 captures nothing.
        data_capture_output: The ``s3://BUCKET/PREFIX/`` of captured calls. Default: a prefix in the package's
            bucket.
        alarm_email: An address that is subscribed to the alarms' topic.
        max_errors_per_minute: Server errors within one minute that raise an alarm and roll an update back.
        max_errors_percent: The percentage of calls that these errors must be at least. At this percentage in
            three of five minutes, any number of errors raises an alarm.
        idle_hours: Hours without a call after which an alarm reports what the endpoint costs.
        log_retention_days: Days that CloudWatch keeps the container's log.
        log_removal: What happens to the log when the stack is deleted: ``destroy`` or ``retain``.
        log_kms_key_arn: A key for the log and the alarms' topic. Its policy must allow both services.

    Raises:
        DeploymentError: a prop is out of range, or does not fit the preset, the package or another prop.
    """

    preset: Preset
    package: DeployedPackage
    stage: str = ""
    endpoint_name: str = ""
    instance_type: str = ""
    min_instances: int = 1
    max_instances: int = 1
    scalable: bool = True
    target_concurrency: float = _COMPUTED
    scale_out_cooldown_s: int = 60
    scale_in_cooldown_s: int = 900
    startup_timeout_s: int = _COMPUTED
    download_timeout_s: int = _COMPUTED
    volume_gb: int = _COMPUTED
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
        preset = self.preset
        bucket = f"s3://{self.package.bucket}"
        name = self.endpoint_name or names.endpoint_name(
            preset.name, self.stage, asynchronous=self.asynchronous
        )
        concurrency = self.concurrent_calls + preset.rows if self.asynchronous else 0.75 * preset.rows
        defaults = {
            "endpoint_name": name,
            "instance_type": preset.compute.instance_type,
            "target_concurrency": max(1.0, concurrency),
            "startup_timeout_s": min(self.load_allowance_s, LONGEST_START_S),
            # The package is downloaded once.
            "download_timeout_s": min(self._allowance_s(engines=1), LONGEST_START_S),
            "volume_gb": math.ceil(self.least_volume_gb + _SPARE_GB),
            "async_output": f"{bucket}/inf2kit-async/{name}/",
            "data_capture_output": f"{bucket}/inf2kit-data-capture/{name}/",
        }
        for option, value in defaults.items():
            if getattr(self, option) in (None, ""):
                object.__setattr__(self, option, value)
        checks.check_props(self)

    @property
    def variables(self) -> dict[str, str]:
        """The container's environment."""
        deadline_s = float(self.async_deadline_s) if self.asynchronous else None
        return {
            **container.container_environment(self.preset, deadline_s=deadline_s),
            # The engine compares this with the digest of the package that it loads.
            PACKAGE_DIGEST: self.package.manifest.digest,
            **self.environment,
        }

    @property
    def load_allowance_s(self) -> int:
        """Seconds that all engines may take to load, one after the other; SageMaker may not wait so long."""
        return self._allowance_s(self.preset.compute.data_parallel_size)

    def _allowance_s(self, engines: int) -> int:
        return _START_S + math.ceil(engines * _START_S_PER_GB * self.package.manifest.size / _GB)

    @property
    def concurrent_calls(self) -> int:
        """Calls that SageMaker sends to one instance of an asynchronous endpoint at a time."""
        # All rows, and one call that waits for the next free one.
        return self.preset.rows + 1

    @cached_property
    def usd_per_hour(self) -> tuple[float, str] | None:
        """Dollars per hour of ``min_instances`` instances (at least one), and the price's region."""
        price = hourly_price(self.instance_type)
        return None if price is None else (price.usd_per_hour * max(1, self.min_instances), price.region)

    @property
    def queue_size(self) -> int:
        """Prompts that may wait for a row of one engine."""
        return int(self.environment.get(variables.QUEUE_SIZE, self.preset.serving.queue_size))

    @property
    def least_volume_gb(self) -> float:
        """Gigabytes that the image and the model need."""
        return catalog.image().unpacked_gb + 1.2 * self.package.manifest.size / _GB
