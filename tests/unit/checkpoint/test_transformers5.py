"""Models that transformers 5 has saved: the same texts and tokens as before, in version 4.55.

The values are what transformers 5.24.0 writes when it loads and saves these models.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.checkpoint import config as configs
from inf2kit.checkpoint import inspect, tokenizer
from inf2kit.checkpoint.rope import find_faults
from inf2kit.cli.commands import main
from inf2kit.package import collect
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
PROMPTS = [
    "My favorite place on earth is",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]
#: The embedded model's files as version 5 writes them, where they differ.
TOKENIZER_CONFIG = {
    "backend": "tokenizers",
    "bos_token": "<|im_start|>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "is_local": True,
    "local_files_only": False,
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 8192,
    "pad_token": "<|im_end|>",
    "tokenizer_class": "TokenizersBackend",
    "unk_token": "<|endoftext|>",
}
POST_PROCESSOR = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}


@pytest.fixture(scope="module")
def saved(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of the embedded model as transformers 5.24.0 saves them."""
    changed = (
        "config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "sha256.json",
    )
    path = packages.link_files(small_weights, tmp_path_factory.mktemp("v5") / "saved", *changed)
    config = json.loads((small_weights / "config.json").read_text(encoding="utf-8"))
    theta = config.pop("rope_theta")
    del config["rope_scaling"]
    config["dtype"] = config.pop("torch_dtype")
    config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default"}
    packages.write_json(path / "config.json", {**config, "transformers_version": "5.24.0"})
    packages.write_json(path / "tokenizer_config.json", TOKENIZER_CONFIG)
    whole = json.loads((small_weights / "tokenizer.json").read_text(encoding="utf-8"))
    packages.write_json(path / "tokenizer.json", {**whole, "post_processor": POST_PROCESSOR})
    return path


def test_a_model_of_transformers_5_gives_the_same_texts_packaged_and_in_this_process(
    saved: Path, small_weights: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir() if path.suffix == ".json"}
    collect(LOCAL, saved).materialise(tmp_path / "package")
    expected = _texts(small_weights)
    assert all(expected)
    assert _texts(tmp_path / "package") == expected
    assert _texts(saved) == expected
    assert {path.name: path.read_bytes() for path in saved.iterdir() if path.suffix == ".json"} == before


def _texts(path: Path) -> list[str]:
    model = inf2kit.load(path)
    return [model.generate(prompt, max_new_tokens=16).text for prompt in PROMPTS]


def test_chats_are_the_same(saved: Path, small_weights: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    collect(LOCAL, saved).materialise(tmp_path / "package")
    old, new = (AutoTokenizer.from_pretrained(path) for path in (small_weights, tmp_path / "package"))
    messages = [{"role": "user", "content": "naïve café 123"}]
    assert new.apply_chat_template(messages) == old.apply_chat_template(messages)
    assert (new.eos_token_id, new.bos_token_id, new.all_special_ids) == (
        old.eos_token_id,
        old.bos_token_id,
        old.all_special_ids,
    )


def test_a_dry_run_names_what_is_rewritten(saved: Path, tmp_path: Path) -> None:
    arguments = [
        "package",
        str(saved),
        "--preset",
        LOCAL.name,
        "--output",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    for line in (
        "written by transformers 5.24.0; the endpoint has 4.55.4",
        "rewritten: config.json: rope_parameters becomes rope_theta 100000.0 and no rope_scaling",
        "rewritten: tokenizer_config.json: tokenizer_class TokenizersBackend becomes PreTrainedTokenizerFast",
    ):
        assert line in result.stdout


LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("model_type", "parameters", "theta", "scaling"),
    [
        ("llama", {"rope_theta": 500000.0, "rope_type": "default"}, 500000.0, None),
        (
            "llama",
            {"rope_theta": 5e5, "rope_type": "llama3", **LLAMA3},
            5e5,
            {"rope_type": "llama3", **LLAMA3},
        ),
        (
            "llama",
            {"factor": 2.0, "rope_theta": 10000.0, "rope_type": "linear", "type": "linear"},
            10000.0,
            {"factor": 2.0, "rope_type": "linear"},
        ),
        (
            "qwen2",
            {"factor": 4.0, "original_max_position_embeddings": 2048, "rope_theta": 1e6, "rope_type": "yarn"},
            1e6,
            {"factor": 4.0, "original_max_position_embeddings": 2048, "rope_type": "yarn"},
        ),
        # Version 5 fills in the model's positions. Version 4.55 would divide them by themselves.
        (
            "qwen2",
            {"factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6, "rope_type": "yarn"},
            1e6,
            {"factor": 4.0, "rope_type": "yarn"},
        ),
        ("smollm3", {"rope_type": "default"}, 2000000.0, None),
    ],
)
def test_rope_parameters_become_what_version_4_reads(
    model_type: str, parameters: dict[str, Any], theta: float, scaling: dict[str, Any] | None
) -> None:
    """Each gives the same frequencies: computed by both versions of transformers when this was written."""
    saved = {**packages.SMALL_CONFIG, "model_type": model_type, "rope_parameters": parameters}
    del saved["rope_theta"]
    config, changes = configs.rewrite(saved)
    assert (config["rope_theta"], config["rope_scaling"]) == (theta, scaling)
    assert "rope_parameters" not in config
    assert len(changes) == 1
    assert find_faults(config, "config.json") == []
    assert configs.rewrite(config) == (config, []), "a second time changes nothing"


def test_partial_rotations_and_the_parameters_of_layers_are_read() -> None:
    parameters = {"partial_rotary_factor": 0.75, "rope_theta": 1e4, "rope_type": "default"}
    config, _ = configs.rewrite({"model_type": "phi3", "rope_parameters": parameters})
    assert config["partial_rotary_factor"] == 0.75
    same = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e6}}
    assert configs.rewrite({"rope_parameters": same})[0]["rope_theta"] == 1e6
    different = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    config, _ = configs.rewrite({"rope_parameters": different})
    assert "differ between kinds of layers" in find_faults(config, "config.json")[0]


@pytest.mark.parametrize(
    ("scaling", "sentence"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "changes with the longest text of a batch"),
        ({"type": "su", "short_factor": [1.0]}, "changes with the longest text of a batch"),
        ({"rope_type": "mrope"}, "is of type 'mrope', which the endpoint does not know"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor of rope_scaling is None"),
        (
            {"rope_type": "linear", "factor": "2"},
            "factor of rope_scaling is '2'; it must be a number above 0",
        ),
        ([1], r"rope_scaling is \[1\]; it must be an object or null"),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192},
            "set max_position_embeddings to 32768",
        ),
    ],
)
def test_positions_that_the_endpoint_would_compute_otherwise_are_refused(
    scaling: object, sentence: str
) -> None:
    config, _ = configs.rewrite({**packages.SMALL_CONFIG, "rope_scaling": scaling})
    (fault,) = find_faults(config, "config.json")
    assert re.search(sentence, fault)


def test_parameters_of_positions_that_are_no_object_are_refused() -> None:
    config, _ = configs.rewrite({**packages.SMALL_CONFIG, "rope_parameters": "yarn"})
    assert find_faults(config, "config.json") == [
        "config.json: rope_parameters is 'yarn'; it must be an object or null; fetch the file again"
    ]


def test_lists_of_special_tokens_become_what_version_4_reads() -> None:
    """Version 4.55 asks the list for its keys."""
    saved = {
        "backend": "tokenizers",
        "tokenizer_class": "Qwen2Tokenizer",
        "extra_special_tokens": ["<a>", "<b>"],
    }
    values, changes = tokenizer.rewrite({**saved, "add_prefix_space": None}, {})
    assert values == {
        "additional_special_tokens": ["<a>", "<b>"],
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    assert len(changes) == 2
    older = {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {}, "add_prefix_space": True}
    assert tokenizer.rewrite(older, {}) == (older, []), "what version 4 has written stays"


def test_a_tokenizers_space_before_the_text_stays_as_its_file_has_it() -> None:
    pre_tokenizer = {"type": "ByteLevel", "add_prefix_space": True}
    values, _ = tokenizer.rewrite({"backend": "tokenizers"}, {"pre_tokenizer": pre_tokenizer})
    assert values["add_prefix_space"] is True


def test_templates_of_all_forms_are_kept(tmp_path: Path) -> None:
    path = packages.write_weights(tmp_path / "weights")
    assert not inspect(path).has_chat_template
    folder = path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}", encoding="utf-8")
    (path / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    inspection = inspect(path)
    assert inspection.has_chat_template
    assert {"chat_template.jinja", "additional_chat_templates/tool_use.jinja"} <= set(inspection.files)
