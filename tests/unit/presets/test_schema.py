"""What a preset says of itself, and the same preset on another instance."""

from __future__ import annotations

import pytest

import inf2kit
from inf2kit.errors import PresetError
from inf2kit.presets.parser import parse_preset


def test_the_blogs_instance_can_be_selected_for_the_budget() -> None:
    budget = inf2kit.load_preset("llama2-7b-budget")
    assert budget.with_instance_type("ml.inf2.xlarge").compute.instance_type == "ml.inf2.xlarge"
    with pytest.raises(PresetError, match=r"choose one of ml\.inf2\.8xlarge, ml\.inf2\.xlarge"):
        budget.with_instance_type("ml.inf2.9xlarge")


@pytest.mark.parametrize("name", inf2kit.preset_names())
def test_the_values_of_a_preset_make_the_same_preset(name: str) -> None:
    preset = inf2kit.load_preset(name)
    assert parse_preset(name, preset.to_dict()) == preset


def test_a_manifest_does_not_say_where_a_preset_is_compiled() -> None:
    values = inf2kit.load_preset("llama2-7b-budget").to_manifest()
    assert "compile" not in values
    assert values["name"] == "llama2-7b-budget"
    assert values["model"]["id"] == "meta-llama/Llama-2-7b-hf"
