"""Presets are loaded by name or from a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PresetError


def test_the_blogs_five_stay() -> None:
    shapes = {}
    for name in inf2kit.preset_names():
        preset = inf2kit.load_preset(name)
        compute = preset.compute
        shapes[name] = (
            *(preset.shapes.batch_size, preset.shapes.sequence_length),
            *(compute.data_parallel_size, compute.tensor_parallel_size, compute.instance_type),
        )
        assert (preset.status == "not run on a device") == (compute.backend == "neuron")
    blog = {
        "llama2-7b-latency": (1, 2048, 1, 24, "ml.inf2.48xlarge"),
        "llama2-7b-throughput": (4, 2048, 1, 24, "ml.inf2.48xlarge"),
        "llama2-13b-latency": (1, 2048, 1, 24, "ml.inf2.48xlarge"),
        "llama2-13b-throughput": (4, 2048, 1, 24, "ml.inf2.48xlarge"),
        "llama2-7b-budget": (1, 2048, 1, 2, "ml.inf2.8xlarge"),
    }
    assert {name: shapes[name] for name in blog} == blog
    assert shapes["smollm2-135m-local"] == (8, 2048, 1, 1, "local")
    assert shapes["llama3.1-8b-fleet"] == (32, 4096, 3, 8, "ml.inf2.48xlarge")


@pytest.mark.parametrize("name", inf2kit.preset_names())
def test_a_presets_name_says_its_model_and_what_it_is_for(name: str) -> None:
    preset = inf2kit.load_preset(name)
    letters = re.sub(r"[^a-z0-9]", "", preset.model.id.rpartition("/")[2].lower())
    *model, purpose = name.split("-")
    for part in "".join(model), *model:
        words = re.findall(r"[a-z]+|[0-9.]+", part)
        assert all(word.replace(".", "") in letters for word in words if word != "deepseek"), words
    assert purpose in ("latency", "throughput", "budget", "fleet", "starter", "local")
    assert (purpose == "fleet") == (preset.compute.data_parallel_size > 1)
    words = ("ungated" in preset.description, preset.compute.backend)
    assert preset.model.gated == (words == (False, "neuron"))


def test_the_page_of_models_lists_every_preset_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs/models.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `") and "-" in line
    ]
    listed = {row[0].strip("`"): row[1:] for row in rows if len(row) == 6}
    assert listed.keys() == set(inf2kit.preset_names())
    for name, (model, gated, instances, cores, shapes) in listed.items():
        preset = inf2kit.load_preset(name)
        compute = preset.compute
        assert (model, gated == "yes") == (preset.model.id, preset.model.gated)
        assert instances == ", ".join(compute.instance_types)
        engines = f"{compute.data_parallel_size} x " if compute.data_parallel_size > 1 else ""
        assert cores == ("-" if compute.backend == "cpu" else f"{engines}{compute.tensor_parallel_size}")
        assert shapes == f"{preset.shapes.batch_size} x {preset.shapes.sequence_length}"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PresetError, match="did you mean 'llama2-7b-latency'"):
        inf2kit.load_preset("lama2-7b-latency")


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"missing\.toml cannot be read: No such file"):
        inf2kit.load_preset(str(tmp_path / "missing.toml"))
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    with pytest.raises(PresetError, match=r"latin\.toml is not TOML"):
        inf2kit.load_preset(str(tmp_path / "latin.toml"))
