"""The model directory's tokenizer, its chat template, and what its configuration files say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine.tokenizer import load_tokenizer, read_eos_ids, read_vocabulary_size
from inf2kit.serving.settings import Settings
from tests.helpers.small_tokenizers import sentencepiece_like


@pytest.fixture
def settings(model_dir: Path, tmp_path: Path) -> Settings:
    """Settings of a folder that has a tokenizer without a chat template, and no more."""
    folder = tmp_path / "tokenizer"
    sentencepiece_like().save_pretrained(folder)
    return dataclasses.replace(Settings.read(model_dir, {}), model_dir=folder)


def write(settings: Settings, name: str, value: object) -> None:
    content = value if isinstance(value, str) else json.dumps(value)
    (settings.model_dir / name).write_text(content, encoding="utf-8")


def test_a_chat_template_is_found_in_each_of_its_files(settings: Settings) -> None:
    assert load_tokenizer(settings).chat_template is None
    write(settings, "chat_template.json", {"chat_template": "of a processor"})
    assert load_tokenizer(settings).chat_template == "of a processor"
    config = json.loads((settings.model_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    write(settings, "tokenizer_config.json", {**config, "chat_template": named})
    assert load_tokenizer(settings).chat_template == {"default": "a", "tool_use": "b"}
    write(settings, "chat_template.jinja", "of its own file")
    assert load_tokenizer(settings).chat_template == "of its own file"


def test_ids_that_end_a_text_come_from_all_files_and_are_those_of_the_model(settings: Settings) -> None:
    write(settings, "config.json", {"vocab_size": 300, "eos_token_id": [7, 400, None]})
    write(settings, "generation_config.json", {"eos_token_id": 9})
    assert read_vocabulary_size(settings) == 300
    assert read_eos_ids(settings, sentencepiece_like(), 300) == {2, 7, 9}


@pytest.mark.parametrize("content", ["{", "[]", "nonsense"])
def test_a_damaged_configuration_is_named(settings: Settings, content: str) -> None:
    write(settings, "config.json", {"vocab_size": 300})
    write(settings, "generation_config.json", content)
    with pytest.raises(ModelDirectoryError, match=r"generation_config\.json is (damaged|not a JSON object)"):
        read_eos_ids(settings, sentencepiece_like(), 300)
    write(settings, "config.json", {"vocab_size": "many"})
    with pytest.raises(ModelDirectoryError, match=r"config\.json: vocab_size is 'many'"):
        read_vocabulary_size(settings)


def test_a_damaged_tokenizer_is_one_sentence(settings: Settings) -> None:
    write(settings, "tokenizer.json", "{")
    with pytest.raises(ModelDirectoryError, match=r"cannot be loaded .* make the package again") as refused:
        load_tokenizer(settings)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_on_a_disk_that_fails_is_not_damaged(settings: Settings) -> None:
    (settings.model_dir / "tokenizer.json").unlink()
    (settings.model_dir / "tokenizer.json").symlink_to("/proc/self/mem")
    with pytest.raises(Exception, match=r"\S") as failed:
        load_tokenizer(settings)
    assert not isinstance(failed.value, ModelDirectoryError)
