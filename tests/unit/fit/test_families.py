"""The memory of a family that differs from Llama's."""

from __future__ import annotations

from dataclasses import replace

from inf2kit.fit import Architecture, estimate_memory
from inf2kit.serving.shapes import StaticShapes

LLAMA = Architecture.find("meta-llama/Llama-3.1-8B-Instruct")


def test_long_prompts_of_a_granite_need_all_their_scores_at_once() -> None:
    """optimum-neuron's kernel has no room for the scale of a granite's scores."""
    granite = replace(LLAMA, model_type="granite")

    def activations(architecture: Architecture, length: int) -> int:
        return estimate_memory(architecture, StaticShapes.resolve(1, length), 8, "bfloat16").activations

    assert activations(granite, 4096) == activations(LLAMA, 4096)
    # 4 of 32 heads on a core, 8192 tokens, and a score of 4 and of 2 bytes for each of 4096 tokens more.
    assert activations(granite, 8192) - activations(LLAMA, 8192) == 4 * 8192 * 4096 * (4 + 2)


def test_biases_and_norms_are_counted() -> None:
    # 32 layers with 32 heads, 8 and 8 of keys and values, of 128 numbers; two norms of 128.
    assert replace(LLAMA, model_type="qwen2").parameters - LLAMA.parameters == 32 * (32 + 2 * 8) * 128
    assert replace(LLAMA, model_type="qwen3").parameters - LLAMA.parameters == 32 * 2 * 128
