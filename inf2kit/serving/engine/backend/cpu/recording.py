"""A recorded decode step: transformers' own forward pass without the Python between its operators.

A step of a small model is hundreds of operators of some microseconds each, and the Python that calls them
takes as long again. ``torch.jit.trace`` records the operators that transformers calls. What changes from step
to step (rows, positions, length) comes in as tensors, so one recording serves all steps.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.utils import logging as transformers_logging

log = logging.getLogger(__name__)

#: Maps token ids ``[rows, 1]``, positions ``[rows, 1]``, mask ``[rows, 1, 1, length]``, row numbers
#: ``[rows]``, and the keys, then the values of all layers ``[rows, key_value_heads, length, head_dim]``, to
#: logits ``[rows, vocabulary]``.
DecodeStep = Callable[..., torch.Tensor]


class ExternalCache(Cache):  # type: ignore[misc]
    """A transformers cache that leaves storage to its subclass; transformers' own keeps a tensor per call."""

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def get_seq_length(self, *_: object) -> int:
        """Return 0: callers pass explicit positions, so transformers has no use for the length."""
        return 0


class _ArgumentCache(ExternalCache):
    """Keys and values that are arguments of the step, which writes the new ones into them."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Sequence[torch.Tensor] = ()
        self.values: Sequence[torch.Tensor] = ()
        self.rows = self.positions = torch.empty(0)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        cache_kwargs: object = None,  # noqa: ARG002 - transformers passes it
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row, and return everything that it attends to."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self.rows, :, self.positions] = key_states[:, :, 0]
        values[self.rows, :, self.positions] = value_states[:, :, 0]
        return keys, values


class _DecodeModule(nn.Module):
    """The decode step as a module whose inputs are all tensors, as tracing needs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self._cache = _ArgumentCache()

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        rows: torch.Tensor,
        *keys_and_values: torch.Tensor,
    ) -> torch.Tensor:
        layers = len(keys_and_values) // 2
        self._cache.keys, self._cache.values = keys_and_values[:layers], keys_and_values[layers:]
        self._cache.rows, self._cache.positions = rows, positions[:, 0]
        output = self._model(
            input_ids=input_ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            logits_to_keep=1,
            cache_position=positions[0],
        )
        logits: torch.Tensor = output.logits[:, 0].float()
        return logits


def record_decode_step(
    model: Any, example: Sequence[torch.Tensor], checks: Sequence[Sequence[torch.Tensor]]
) -> DecodeStep:
    """Record the decode step of a model, or return the plain step where that fails.

    Args:
        model: A transformers causal language model.
        example: The arguments of the step to record.
        checks: The arguments of other steps, with other shapes and positions. The recording is used only if
            it gives the model's own logits for each of them.
    """
    jit: Any = torch.jit  # not typed
    step = _DecodeModule(model).eval()
    verbosity = transformers_logging.get_verbosity()
    # Tracing reads every property of the model, and one of them logs a deprecation.
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # The tracer warns of Python values that it records as constants: here these are the model's
            # sizes.
            warnings.simplefilter("ignore")
            recorded: DecodeStep = jit.freeze(jit.trace(step, tuple(example), check_trace=False).eval())
            # In order: each step writes keys and values that a later one may read.
            if all(torch.equal(step(*inputs), recorded(*inputs)) for inputs in checks):
                return recorded
        reason = "it gives other logits"
    except Exception as error:
        reason = str(error).partition("\n")[0]
    finally:
        transformers_logging.set_verbosity(verbosity)
    log.warning("the decode step cannot be recorded (%s); it is slower by the Python in it", reason)
    return step
