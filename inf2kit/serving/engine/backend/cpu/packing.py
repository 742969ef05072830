"""Linear layers that read their weights faster: packed by oneDNN, and joined where they share their input.

With a few rows a linear layer is bound by reading its weights, and the layout that a checkpoint has is not
the one that reads best. The model stays transformers' own: only its ``nn.Linear`` modules are exchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

#: Projections of one input, which are computed as one.
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


# torch's own compiler uses the operators behind this one; they are not among its documented ones, and their
# argument lists cannot be recorded, so they get a name of ours.
_LIBRARY: Any = torch.library.Library("inf2kit", "FRAGMENT")  # type: ignore[no-untyped-call]
if not hasattr(torch.ops.inf2kit, "packed_linear"):
    _LIBRARY.define("packed_linear(Tensor inputs, Tensor packed, Tensor? bias) -> Tensor")


def _packed_linear(inputs: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")
    return output


for _key in ("CPU", "MkldnnCPU"):
    _LIBRARY.impl("packed_linear", _packed_linear, _key)


class PackedLinear(nn.Module):
    """``nn.Linear`` without gradients, its weight in oneDNN's own layout.

    Args:
        weight: ``[out_features, in_features]``.
        bias: ``[out_features]``, or None.
        rows: The number of rows that the layout is chosen for; others are computed too.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, rows: int) -> None:
        super().__init__()
        self.register_buffer("_packed", torch.ops.mkldnn._reorder_linear_weight(weight, rows), False)
        self.register_buffer("_bias", bias, False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        output: torch.Tensor = torch.ops.inf2kit.packed_linear(inputs, self._packed, self._bias)
        return output


class _First(nn.Module):
    """Computes several projections at once, gives its own, and keeps the others for the modules behind it."""

    def __init__(self, linear: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self._linear = linear
        self._sizes = list(sizes)
        self.others: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor
        own, *self.others = self._linear(inputs).split(self._sizes, dim=-1)
        return own


class _Behind(nn.Module):
    """Gives what the first one has computed; transformers calls the projections in their order."""

    def __init__(self, first: _First) -> None:
        super().__init__()
        self._first = [first]  # in a list, so that it is not a submodule twice

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = self._first[0].others.pop(0)
        return given


def pack(model: Any, rows: int) -> bool:
    """Exchange a model's linear layers for packed ones; false where this build of torch cannot.

    Args:
        model: A transformers causal language model, with its weights.
        rows: The number of rows that decode steps usually have.
    """
    if not _available(next(model.parameters()).dtype):
        return False
    for parent in list(model.modules()):
        for names in _TOGETHER:
            linears = [getattr(parent, name, None) for name in names]
            if all(isinstance(linear, nn.Linear) for linear in linears):
                _join(parent, names, linears, rows)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, PackedLinear(child.weight.detach(), _detached(child.bias), rows))
    return True


def _join(parent: Any, names: Sequence[str], linears: Sequence[Any], rows: int) -> None:
    weight = torch.cat([linear.weight.detach() for linear in linears])
    bias = None
    if linears[0].bias is not None:
        bias = torch.cat([linear.bias.detach() for linear in linears])
    first = _First(PackedLinear(weight, bias, rows), [linear.out_features for linear in linears])
    setattr(parent, names[0], first)
    for name in names[1:]:
        setattr(parent, name, _Behind(first))


def _detached(bias: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias is None else bias.detach()


def _available(dtype: torch.dtype) -> bool:
    try:
        ones = torch.ones(1, 4, dtype=dtype)
        return bool(torch.equal(PackedLinear(torch.eye(4, dtype=dtype), None, 1)(ones), ones))
    except (AttributeError, RuntimeError, NotImplementedError):
        log.warning("this build of torch cannot pack linear layers; they are computed as they are")
        return False
