"""The names that a preset gives to its endpoint, its stack and its parameter: one place for all of them."""

from __future__ import annotations

import re

#: SageMaker's own rule for an EndpointName.
ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def endpoint_name(preset: str, stage: str = "") -> str:
    """A preset's name in the letters that SageMaker allows, with its stage if there is one."""
    return _staged(re.sub(r"[^a-zA-Z0-9]+", "-", preset).strip("-"), stage)


def stack_name(preset: str, stage: str = "") -> str:
    """The CloudFormation stack of a preset."""
    return f"inf2-{endpoint_name(preset, stage)}"


def parameter_name(preset: str, stage: str = "") -> str:
    """The parameter in Systems Manager that tells callers which endpoint serves a preset."""
    return f"/inf2kit/presets/{_staged(preset, stage)}"


def _staged(name: str, stage: str) -> str:
    return f"{name}-{stage}" if stage else name
