"""Which preset an endpoint serves, as far as this machine knows."""

from __future__ import annotations

from inf2kit.client.local import local_endpoint_preset
from inf2kit.names import preset_of_endpoint
from inf2kit.presets import Preset, load_preset, preset_names


def find_preset(endpoint: str, preset: str | None) -> Preset | None:
    """Return the preset that an endpoint serves, or None if it is not known.

    Args:
        endpoint: The EndpointName.
        preset: The preset's name or file, as the caller says; None for the one that a local endpoint was
            started with, or that gives an endpoint this name.

    Raises:
        PresetError: there is no such preset, or its file is wrong.
    """
    name = preset or local_endpoint_preset(endpoint) or preset_of_endpoint(endpoint, preset_names())
    return None if name is None else load_preset(name)
