"""A decode step, recorded: transformers' own forward pass without the Python between its operators.

A step of a small model is hundreds of operators of some microseconds each, and the Python that calls them
takes as long again. ``torch.jit.trace`` records which operators transformers calls; what changes from step
to step (rows, positions, the used length) comes in as tensors, so that one recording serves all.
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

#: Token ids ``[rows, 1]``, positions ``[rows, 1]``, mask ``[rows, 1, 1, used]``, row numbers ``[rows]``, and
#: per layer keys, then values ``[rows, key_value_heads, used, head_dim]``, to logits ``[rows, vocabulary]``.
DecodeStep = Callable[..., torch.Tensor]


class OwnStorage(Cache):  # type: ignore[misc]
    """A transformers cache without transformers' storage, which keeps a tensor per call and layer."""

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def get_seq_length(self, *_: object) -> int:
        """Positions are always given explicitly, so that nobody needs this."""
        return 0


class _Given(OwnStorage):
    """Keys and values that come in as arguments; the new ones are written into them."""

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
        """Write one token per row, and give all of what it attends to."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        keys[self.rows, :, self.positions] = key_states[:, :, 0]
        values[self.rows, :, self.positions] = value_states[:, :, 0]
        return keys, values


class _Step(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self._cache = _Given()

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


def record(
    model: Any, example: Sequence[torch.Tensor], others: Sequence[Sequence[torch.Tensor]]
) -> DecodeStep:
    """The decode step of a model.

    Args:
        model: A transformers causal language model.
        example: Arguments of a step that is recorded.
        others: Arguments of other steps, of other shapes and at other positions, with which the recording
            must give what the model gives; where it does not, or cannot be made, the model itself is called
            at every step.
    """
    jit: Any = torch.jit  # not typed
    step = _Step(model).eval()
    verbosity = transformers_logging.get_verbosity()
    # Recording looks at every property of the model, and one of them has something to say about it.
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # What Python decides while recording is what it would decide at every step: the model's sizes.
            warnings.simplefilter("ignore")
            recorded = jit.freeze(jit.trace(step, tuple(example), check_trace=False).eval())
            # One after the other: a step writes its keys and values, and another one may read them.
            if all(torch.equal(step(*other), recorded(*other)) for other in others):
                found: DecodeStep = recorded
                return found
        reason = "it gives other logits"
    except Exception as error:
        reason = str(error).partition("\n")[0]
    finally:
        transformers_logging.set_verbosity(verbosity)
    log.warning("the decode step cannot be recorded (%s); it is slower by the Python in it", reason)
    return step
