"""What tests of the stacks share."""

from __future__ import annotations

from typing import Any

from aws_cdk.assertions import Template

import inf2kit
from inf2kit import paths
from inf2kit.presets import Preset
from tests.helpers import packages

BUCKET = "s3://models/llm"
NEURON_PRESETS = [
    name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"
]


def deployable(preset: Preset | str, **changed: Any) -> str:
    """The URI of a package of a preset, whose manifest lies where packaging leaves it."""
    preset = inf2kit.load_preset(preset) if isinstance(preset, str) else preset
    manifest = packages.manifest(preset, **changed)
    paths.keep_manifest(manifest.digest, manifest.to_bytes())
    return f"{BUCKET}/{manifest.digest}/"


def only(template: Template, kind: str) -> dict[str, Any]:
    """The properties of the only resource of a kind."""
    (resource,) = template.find_resources(f"AWS::{kind}").values()
    properties: dict[str, Any] = resource["Properties"]
    return properties
