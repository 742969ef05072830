"""``inf2kit.load``: the same texts as an endpoint, in this process."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import inf2kit
from inf2kit.package.contents import collect
from tests.helpers import packages

PROMPTS = ["My favorite place on earth is", "The capital of France is"]


@pytest.fixture(scope="module")
def model(small_weights: Path) -> inf2kit.Model:
    return inf2kit.load(small_weights, batch_size=2, sequence_length=256)


def test_a_batch_a_text_and_a_stream_agree(model: inf2kit.Model) -> None:
    results = model.generate(PROMPTS, max_new_tokens=8)
    assert [result.generated_tokens for result in results] == [8, 8]
    assert {result.finish_reason for result in results} == {"length"}
    assert model.generate(PROMPTS[0], max_new_tokens=8) == results[0]
    assert "".join(model.stream(PROMPTS[1], max_new_tokens=8)) == results[1].text


def test_a_request_that_makes_no_sense_is_refused(model: inf2kit.Model) -> None:
    with pytest.raises(inf2kit.RequestError, match="top_p") as refused:
        model.generate("x", top_p=2)
    assert refused.value.status == 422


def test_a_stream_is_of_one_text(model: inf2kit.Model) -> None:
    with pytest.raises(inf2kit.RequestError, match="'stream' takes one text") as refused:
        list(model.stream(PROMPTS, max_new_tokens=2))  # type: ignore[arg-type]
    assert refused.value.status == 422


def test_sampling_defaults_of_the_models_configuration_are_not_used(
    model: inf2kit.Model, small_weights: Path, tmp_path: Path
) -> None:
    """A request without a temperature is greedy for every model, as with Text Generation Inference."""
    folder = packages.link_files(small_weights, tmp_path / "weights", "generation_config.json")
    defaults = {"do_sample": True, "temperature": 1.9, "top_p": 0.5, "max_new_tokens": 2}
    (folder / "generation_config.json").write_text(json.dumps(defaults), encoding="utf-8")
    result = inf2kit.load(folder, batch_size=1, sequence_length=256).generate(PROMPTS[0], max_new_tokens=8)
    assert result.seed is None
    assert result.text == model.generate(PROMPTS[0], max_new_tokens=8).text


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(inf2kit.ModelDirectoryError, match=r"lacks config\.json"):
        inf2kit.load(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(inf2kit.ModelDirectoryError, match=r"lacks model\.safetensors"):
        inf2kit.load(tmp_path)


def test_a_package_is_loaded_and_leaves_the_folder_for_temporary_files_as_it_is(
    small_weights: Path, tmp_path: Path
) -> None:
    package, temporary = tmp_path / "package", tmp_path / "temporary"
    collect(inf2kit.load_preset("smollm2-135m-local"), small_weights).materialise(package)
    temporary.mkdir(mode=0o755)
    code = (
        "import inf2kit, sys; "
        "print(inf2kit.load(sys.argv[1]).generate('x', max_new_tokens=3).generated_tokens)"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(package)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "3\n"
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o755
    with pytest.raises(inf2kit.ModelDirectoryError, match="leave batch_size and sequence_length out"):
        inf2kit.load(package, batch_size=2)
