"""Names of AWS resources that several parts of inf2kit must agree on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

#: SageMaker's own pattern and limit of an EndpointName. The pattern alone allows for more, with many '-'.
_ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_MAX_ENDPOINT_NAME = 63
#: What S3's header ``x-amz-server-side-encryption`` may say, as the AWS CLI's ``--sse`` takes it.
ENCRYPTION_METHODS = ("AES256", "aws:kms", "aws:kms:dsse")
#: The tag of all that inf2kit creates on AWS; its value is the preset's name.
PRESET_TAG = "inf2kit:preset"
#: The stack of the role that compilation jobs run with.
COMPILE_ROLE_STACK = "inf2-compile-role"


def preset_name(name_or_path: str) -> str:
    """Return the name of a preset that is given by its name, or by the path of its ``.toml`` file."""
    return PurePath(name_or_path).stem if name_or_path.endswith(".toml") else name_or_path


def endpoint_name(preset: str, stage: str = "", *, asynchronous: bool = False) -> str:
    """Return the default name of a preset's endpoint, with only the characters that SageMaker allows."""
    name = _add_stage(re.sub(r"[^a-zA-Z0-9]+", "-", preset).strip("-"), stage)
    return f"{name}-async" if asynchronous else name


def endpoint_or_preset(text: str) -> str:
    """Return the endpoint's name that is meant by one, or by a preset's name or path.

    Any other text is returned as it is.
    """
    preset = preset_name(text)
    is_preset = not is_endpoint_name(text) and re.fullmatch(r"\w[\w.-]*", preset, re.ASCII)
    return endpoint_name(preset) if is_preset else text


def preset_of_endpoint(name: str, presets: Iterable[str]) -> str | None:
    """Return the first of some presets that gives its endpoint this name by default, or None."""
    return next((preset for preset in presets if endpoint_name(preset) == name), None)


def is_endpoint_name(name: str) -> bool:
    """Whether SageMaker accepts a name for an endpoint."""
    return len(name) <= _MAX_ENDPOINT_NAME and _ENDPOINT_NAME.fullmatch(name) is not None


def stack_name(preset: str, stage: str = "") -> str:
    """Return the name of a preset's CloudFormation stack."""
    return f"inf2-{endpoint_name(preset, stage)}"


def parameter_name(preset: str, stage: str = "") -> str:
    """Return the name of the Systems Manager parameter that tells clients which endpoint serves a preset."""
    return f"/inf2kit/presets/{_add_stage(preset, stage)}"


def log_group_name(endpoint: str) -> str:
    """Return the name of the log group that SageMaker writes an endpoint's containers' output to."""
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def tag_value(text: str) -> str:
    """Return a text with only the characters that AWS allows in a tag's value, and at most 256 of them."""
    return re.sub(r"[^\w .:/=+@-]", "-", text)[:256]


def _add_stage(name: str, stage: str) -> str:
    return f"{name}-{stage}" if stage else name
