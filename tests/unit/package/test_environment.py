"""The container's environment."""

from __future__ import annotations

import pytest

import inf2kit
from inf2kit.package.environment import container_environment


@pytest.mark.parametrize("name", inf2kit.preset_names())
def test_the_environment_keeps_to_sagemakers_limits(name: str) -> None:
    variables = container_environment(inf2kit.load_preset(name))
    assert len(variables) <= 100
    assert all(len(key) <= 1024 and len(value) <= 1024 for key, value in variables.items())
    assert "INF2KIT_GATEWAY_ADDRESS" not in container_environment(inf2kit.load_preset(name), gateway=False)
