"""Checks of an endpoint's props, so that a mistake fails the synth and not the deployment."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from inf2kit import catalog
from inf2kit.errors import DeploymentError, PackageError, PresetError
from inf2kit.names import is_endpoint_name
from inf2kit.package import environment
from inf2kit.package.stores.places import parse_bucket_place
from inf2kit.serving import variables

if TYPE_CHECKING:
    from inf2kit.deployment.props import EndpointProps

_GB = 1e9
#: The shortest time-out of a start: seconds, plus seconds per gigabyte (a volume that reads 100 MB/s).
_LEAST_START_S, _LEAST_START_S_PER_GB = 60, 10
#: Days of retention that CloudWatch Logs accepts.
_RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545),
    *(731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
#: The fewest instances of each kind of rollout: a canary is at most half of the instances, a batch a quarter.
ROLLOUTS = {"all_at_once": 1, "canary": 2, "rolling": 4}
#: Seconds between an asynchronous call's deadline and SageMaker's time-out, for writing the answer to S3.
ASYNC_MARGIN_S = 60
#: The props that name a KMS key.
KEY_OPTIONS = ("kms_key_arn", "package_kms_key_arn", "log_kms_key_arn")
#: Seconds after which SageMaker ends an asynchronous invocation.
_ASYNC_LIMIT_S = 3600
#: Those variables of the engine that users may set; inf2kit sets the others.
_TUNABLE = (
    variables.PREFILLS_PER_STEP,
    variables.QUEUE_SIZE,
    variables.STALL_SECONDS,
    variables.TORCH_THREADS,
    variables.MIN_ENGINES,
)
#: Bytes of a preset's description and name: a template's Description has 1,024 bytes, a stack's name 128.
_LONGEST_DESCRIPTION, _LONGEST_NAME = 1000, 100
#: Bytes of all of a container's variables.
_LONGEST_ENVIRONMENT = 32 * 1024
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def check_props(props: EndpointProps) -> None:
    """Check every prop of an endpoint.

    Raises:
        DeploymentError: a prop is wrong; the message has its name, its value and what is allowed.
    """
    preset = props.preset
    if preset.compute.backend != "neuron":
        raise _wrong(props, "preset", preset.name, "one for Neuron; this one runs on this machine only")
    try:
        preset.with_instance_type(props.instance_type)
        props.package.manifest.check_fits(preset, catalog.image().tag)
    except (PackageError, PresetError) as error:
        raise DeploymentError(str(error)) from None
    if props.stage and not re.fullmatch("[a-zA-Z0-9]+", props.stage):
        raise _wrong(props, "stage", props.stage, "letters and digits, such as dev")
    if not is_endpoint_name(props.endpoint_name):
        raise _wrong(props, "endpoint_name", props.endpoint_name, "up to 63 letters, digits and single '-'")
    _check_fleet(props)
    _check_times(props)
    _check_environment(props)
    _check_options(props)
    _check_keys(props)
    _check_texts(props)
    # Read the prices now: a file that cannot be read must fail here, not in the middle of a stack.
    _ = props.usd_per_hour


def _check_fleet(props: EndpointProps) -> None:
    least = 0 if props.asynchronous else 1
    _within(props, "min_instances", least, 100)
    _within(props, "max_instances", max(1, props.min_instances), 100)
    _one_of(props, "rollout", tuple(ROLLOUTS))
    if max(1, props.min_instances) < ROLLOUTS[props.rollout]:
        raise _wrong(
            props,
            "rollout",
            props.rollout,
            f"all_at_once with fewer than {ROLLOUTS[props.rollout]} min_instances",
        )
    # Above the rows texts wait in the instance; an asynchronous backlog waits in S3.
    _within(props, "target_concurrency", 1, 10_000 if props.asynchronous else props.preset.rows)
    _within(props, "scale_out_cooldown_s", 0, 3600)
    _within(props, "scale_in_cooldown_s", 0, 86_400)


def _check_times(props: EndpointProps) -> None:
    size_gb = props.package.manifest.size / _GB
    least = math.ceil(_LEAST_START_S + _LEAST_START_S_PER_GB * size_gb)
    for name in ("startup_timeout_s", "download_timeout_s"):
        _within(props, name, 60, 3600)
        if getattr(props, name) < least:
            raise _wrong(props, name, getattr(props, name), f"at least {least} for {size_gb:.1f} GB of model")
    _within(props, "volume_gb", math.ceil(props.least_volume_gb), 512)
    _within(props, "async_deadline_s", 1, _ASYNC_LIMIT_S - ASYNC_MARGIN_S)
    _within(props, "idle_hours", 1, 24)
    _within(props, "max_errors_per_minute", 1, 10_000)
    _within(props, "max_errors_percent", 1, 100)
    _one_of(props, "log_retention_days", _RETENTIONS)
    _one_of(props, "log_removal", ("destroy", "retain"))


def _check_environment(props: EndpointProps) -> None:
    reserved = environment.container_environment(props.preset)
    for name, value in props.environment.items():
        if not _VARIABLE.fullmatch(name):
            raise _wrong(props, f"environment {name}", value, "named by letters, digits and '_'")
        if name in reserved or (name.startswith("INF2KIT_") and name not in _TUNABLE):
            raise _wrong(
                props,
                f"environment {name}",
                value,
                f"left out: inf2kit sets it; free are {', '.join(_TUNABLE)}",
            )
        if name in _TUNABLE:
            _check_number(props, name, value)
        if re.search("token|secret|password|credential|_key(_id)?$", name, re.IGNORECASE):
            raise _wrong(
                props,
                f"environment {name}",
                "...",
                "left out: a Model's environment can be read by many; use a package",
            )
    for name, value in props.variables.items():
        if len(name.encode()) > 1024 or len(value.encode()) > 1024:
            raise _wrong(props, f"environment {name}", f"{len(value)} characters", "at most 1,024 bytes")
    size = sum(len(f"{name}{value}".encode()) for name, value in props.variables.items())
    if size > _LONGEST_ENVIRONMENT:
        raise _wrong(props, "environment", f"{size} bytes", f"at most {_LONGEST_ENVIRONMENT:,} in all")
    if len(props.variables) > 100:
        raise _wrong(props, "environment", f"{len(props.variables)} variables", "at most 100")


def _check_number(props: EndpointProps, name: str, value: str) -> None:
    """Check a variable as the container does, which would not start on AWS after minutes of its price."""
    number, engines = variables.NUMBERS[name], props.preset.compute.data_parallel_size
    if name == variables.MIN_ENGINES:
        number = replace(number, high=engines)
    try:
        number.read(value)
    except ValueError:
        raise _wrong(props, f"environment {name}", value, str(number)) from None


def _check_options(props: EndpointProps) -> None:
    _within(props, "data_capture_percent", 0, 100)
    if bool(props.subnet_ids) != bool(props.security_group_ids):
        raise _wrong(props, "subnet_ids", props.subnet_ids, "given together with security_group_ids")
    for name, pattern in (("subnet_ids", "subnet-[0-9a-f]+"), ("security_group_ids", "sg-[0-9a-f]+")):
        for value in getattr(props, name):
            if not re.fullmatch(pattern, value):
                raise _wrong(props, name, value, f"such as {pattern.partition('[')[0]}0123456789abcdef0")
    if props.alarm_email and "@" not in props.alarm_email:
        raise _wrong(props, "alarm_email", props.alarm_email, "an address")
    for name in ("async_output", "data_capture_output"):
        value = getattr(props, name)
        if not re.fullmatch(r"s3://[^/]+/.+/", value):
            raise _wrong(props, name, value, "s3://BUCKET/PREFIX/")
        if "${" not in value:  # a token of the CDK's is known only when it is deployed
            try:
                parse_bucket_place(value)
            except PackageError as error:
                raise DeploymentError(f"endpoint of {props.preset.name!r}: {name}: {error}") from None
        if props.package.uri.startswith(value) or value.startswith(props.package.uri):
            raise _wrong(props, name, value, "outside the package, which never changes")


def _check_keys(props: EndpointProps) -> None:
    arns = {name: getattr(props, name) for name in KEY_OPTIONS if getattr(props, name)}
    for name, value in arns.items():
        if not re.fullmatch(r"arn:[\w-]+:kms:[\w-]+:\d{12}:key/.+", value):
            raise _wrong(props, name, value, "the ARN of a key (an alias cannot be granted)")
    # A key can be used in its own region only, and all of them are used in the stack's region.
    regions = {name: value.split(":")[1:4:2] for name, value in arns.items()}
    for name, region in regions.items():
        first = next(iter(regions))
        if region != regions[first]:
            raise _wrong(props, name, arns[name], f"in the region of {first}, {':'.join(regions[first])}")
    if props.bucket_owner and not re.fullmatch(r"\d{12}", props.bucket_owner):
        raise _wrong(props, "bucket_owner", props.bucket_owner, "an account of 12 digits")


def _check_texts(props: EndpointProps) -> None:
    """Check the texts of a preset that go into the template, which limits their length."""
    for name, text, most in (
        ("name", props.preset.name, _LONGEST_NAME),
        ("description", props.preset.description, _LONGEST_DESCRIPTION),
    ):
        if len(text.encode()) > most:
            raise _wrong(props, name, f"{text[:20]}...", f"at most {most} bytes")


def _one_of(props: EndpointProps, name: str, allowed: tuple[object, ...]) -> None:
    if getattr(props, name) not in allowed:
        raise _wrong(props, name, getattr(props, name), f"one of {', '.join(map(str, allowed))}")


def _within(props: EndpointProps, name: str, low: float, high: float) -> None:
    if not low <= getattr(props, name) <= high:
        raise _wrong(props, name, getattr(props, name), f"within {low:g}..{high:g}")


def _wrong(props: EndpointProps, name: str, value: object, allowed: str) -> DeploymentError:
    return DeploymentError(f"endpoint of {props.preset.name!r}: {name} is {value!r}; it must be {allowed}")
