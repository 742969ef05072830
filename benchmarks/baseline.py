"""The baseline: transformers' own ``generate`` in one process, without a server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


class Baseline:
    """A transformers model that generates static batches.

    Args:
        weights: The model's directory.
        tokenizer: The model's tokenizer, of transformers.
        dtype: The precision of weights and arithmetic.
    """

    def __init__(self, weights: Path, tokenizer: Any, dtype: torch.dtype = torch.float32) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.model = AutoModelForCausalLM.from_pretrained(weights, torch_dtype=dtype).eval()
        self._tokenizer = tokenizer
        self._tokenizer.padding_side = "left"

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], new_tokens: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> int:
        """Generate a static batch, which runs until its longest text is done; return its new tokens.

        Args:
            prompts: The prompts.
            new_tokens: New tokens of each.
            options: How tokens are sampled, as transformers names it; None for greedy search.
        """
        inputs = self._tokenizer(list(prompts), return_tensors="pt", padding=True)
        longest = max(new_tokens)
        lengths = {"max_new_tokens": longest, "min_new_tokens": longest}
        ids = self.model.generate(**inputs, **lengths, **(options or {"do_sample": False}))
        assert ids.shape[1] == inputs["input_ids"].shape[1] + longest
        return sum(new_tokens)
