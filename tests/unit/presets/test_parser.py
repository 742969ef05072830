"""A wrong key or value in a preset's file is named, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import PresetError

GOOD = (Path(inf2kit.__file__).parent / "presets" / "llama2-7b-throughput.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("batch_size = 4", "batch_sise = 4", r"'batch_size' is missing.*'batch_sise', misspelt\?"),
        (
            "batch_size = 4",
            "batch_size = 4\nbatchsize = 4",
            r"unknown key 'batchsize'; did you mean 'batch_size'",
        ),
        ("batch_size = 4", "batch_size = 0", r"\[shapes\]: batch_size is 0; it must be within 1\.\.256"),
        ("batch_size = 4", 'batch_size = "4"', r"batch_size is '4'; it must be"),
        ("batch_size = 4", "batch_size = true", r"batch_size is True; it must be"),
        ('"float16"', '"fp16"', r"dtype is 'fp16'; it must be one of float16, bfloat16, float32"),
        ('"neuron"', '"neurons"', r"did you mean 'neuron'"),
        (
            "= 24",
            "= 25",
            r"tensor_parallel_size is 25; it must be at most 24, the cores of ml\.inf2\.48xlarge",
        ),
        (
            "= 24",
            "= 8\ndata_parallel_size = 4",
            r"data_parallel_size is 4; it must be at most 3: ml\.inf2\.48xlarge has 24 cores for engines of",
        ),
        ("= 24", "= 8\ndata_parallel_size = 0", r"data_parallel_size is 0; it must be within 1\.\.24"),
        ("= 24", '= 24\nsampling = "chip"', r"sampling is 'chip'; it must be one of host, device"),
        ('"neuron"', '"cpu"\nsampling = "device"', r"must be 'host', as the backend 'cpu' has no device"),
        ("gated = true", "gated = 1", r"gated is 1; it must be a bool"),
        ("[serving]", "[serving]\ndeadline_s = 60", r"deadline_s is 60\.0; it must be above 0 and under 60"),
        ("stream_deadline_s = 470", "stream_deadline_s = 480", r"stream_deadline_s is 480\.0; .* under 480"),
        ("stream_deadline_s = 470", "stream_deadline_s = 50", r"must be at least deadline_s \(55\)"),
        ("[shapes]", "[shape]", r"'shapes' is missing; add a table \[shapes\]; is it 'shape', misspelt"),
        ("[model]", "[model", r"is not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(PresetError, match=sentence):
        inf2kit.load_preset(str(path))
