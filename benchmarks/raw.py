"""transformers' own ``generate`` in one process, without any server: the yardstick."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


class Raw:
    """A model and its tokenizer.

    Args:
        weights: Their directory.
        tokenizer: Of transformers.
        dtype: Of the arithmetic.
    """

    def __init__(self, weights: Path, tokenizer: Any, dtype: torch.dtype = torch.float32) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model = AutoModelForCausalLM.from_pretrained(weights, torch_dtype=dtype).eval()
        self._tokenizer = tokenizer
        self._tokenizer.padding_side = "left"

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], new_tokens: Sequence[int]) -> int:
        """A static batch: it runs until its longest text is done. The number of new tokens asked for."""
        inputs = self._tokenizer(list(prompts), return_tensors="pt", padding=True)
        longest = max(new_tokens)
        ids = self.model.generate(**inputs, max_new_tokens=longest, min_new_tokens=longest, do_sample=False)
        assert ids.shape[1] == inputs["input_ids"].shape[1] + longest
        return sum(new_tokens)
