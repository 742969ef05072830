"""Presets: named, complete choices of model, shapes and instance, as data in TOML files."""

from inf2kit.presets.loader import load_preset, preset_names
from inf2kit.presets.schema import Compute, Model, Preset, Serving

__all__ = ["Compute", "Model", "Preset", "Serving", "load_preset", "preset_names"]
