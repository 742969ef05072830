"""What optimum-neuron 0.4.1 to 0.4.5 compiles wrongly, corrected while it traces the graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from inf2kit.compile.spec import CompileSpec

#: Changes with them, as what was compiled without is not used any more.
CORRECTIONS = 1


def change_graphs(spec: CompileSpec, vocabulary: int) -> bool:
    """Whether the graphs differ from those that optimum-neuron alone would trace.

    Args:
        spec: What is compiled.
        vocabulary: Number of tokens of the model.
    """
    return not spec.on_device_sampling and vocabulary % spec.tensor_parallel_size != 0


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """Let the graphs that are traced meanwhile have every token of the vocabulary.

    Where the cores do not divide the vocabulary, neuronx_distributed pads the output layer, and cuts the
    padding off when it gathers the logits for the host (``ColumnParallelLinear.forward``). optimum-neuron
    then masks as many of the last tokens as there were in the padding, which are real ones
    (``modeling_decoder.forward``): the last 16 of Llama 2's 32,000 on 24 cores, the last of Granite 3.1's
    49,155 on two. Tests compare the logits of every token with transformers' own.
    """
    from optimum.neuron.models.inference.backend.modules.decoder import modeling_decoder

    original = modeling_decoder.mask_padded_logits
    modeling_decoder.mask_padded_logits = mask_split_logits
    try:
        yield
    finally:
        modeling_decoder.mask_padded_logits = original


def mask_split_logits(logits: Any, rank_id: Any, world_size: int, pad_size: int | None = None) -> Any:
    """Mask the padding of logits that are split over cores; those that were gathered have none.

    Args:
        logits: Of one core, ``[rows, 1, part of the vocabulary]``, or gathered.
        rank_id: The core's number.
        world_size: Number of cores that the logits are split over; 1 for gathered ones.
        pad_size: Entries of the padding.
    """
    if world_size == 1:
        return logits
    from optimum.neuron.models.inference.backend.modules.generation.sampling import mask_padded_logits

    return mask_padded_logits(logits, rank_id, world_size, pad_size=pad_size)
