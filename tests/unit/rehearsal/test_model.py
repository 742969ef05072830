"""The embedded model: a correct tokenizer, and a conversion that may be killed at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from transformers import AutoTokenizer

from tests.helpers.servers import wait_until


def test_the_tokenizer_has_none_of_the_naive_conversions_faults(weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights)
    encoded = tokenizer("In 2024 it cost $15.")
    assert list(encoded) == ["input_ids", "attention_mask"], "no token_type_ids"
    ids = encoded["input_ids"]
    assert ids[0] != tokenizer.bos_token_id, "no beginning-of-sequence token: the file says none"
    assert [tokenizer.decode([i]) for i in ids if tokenizer.decode([i]).isdigit()] == list("202415")
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"  # noqa: S105
    assert tokenizer.decode(ids) == "In 2024 it cost $15."
    for text in ("中文 日本語", "😀🎉", "  spaces\n\ttabs ", "naïve — café", "<b>&amp;</b> ,.!? 'tis"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_ends_with_the_assistants_turn(weights: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights)
    chat = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_a_killed_conversion_leaves_nothing_half_made(tmp_path: Path) -> None:
    script = "from inf2kit.rehearsal import model; model.prepare(lambda step: print(step, flush=True))"

    def convert_and_kill_at(step: str) -> list[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "INF2KIT_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout:
            wait_until(lambda: step in process.stdout.readline(), f"the step {step!r}")  # type: ignore[union-attr]
            process.send_signal(signal.SIGKILL)
        return sorted(path.name for path in (tmp_path / "models").iterdir())

    first = convert_and_kill_at("converting")
    scratch, lock = first
    assert scratch.startswith(".converting-"), "no process takes it for a model"
    assert lock == ".lock"
    second = convert_and_kill_at("checking")
    assert len(second) == 2, "the next conversion has deleted the scratch folder"
    assert set(first) != set(second)
