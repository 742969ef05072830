"""Packages for stacks, and access to resources of synthesized templates."""

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


def register_package(preset: Preset | str, **changed: Any) -> str:
    """Keep the manifest of a preset's package where packaging leaves it, and return the package's URI."""
    preset = inf2kit.load_preset(preset) if isinstance(preset, str) else preset
    manifest = packages.build_manifest(preset, **changed)
    paths.save_manifest(manifest.digest, manifest.to_bytes())
    return f"{BUCKET}/{manifest.digest}/"


def find_only(template: Template, kind: str) -> dict[str, Any]:
    """Return the properties of the only resource of a type."""
    (resource,) = template.find_resources(f"AWS::{kind}").values()
    properties: dict[str, Any] = resource["Properties"]
    return properties
