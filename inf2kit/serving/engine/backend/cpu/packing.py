"""Linear layers that read their weights faster: packed by oneDNN, and joined where they share their input.

With a few rows a linear layer is bound by reading its weights, and a checkpoint's layout is not the fastest
to read. The model stays transformers' own: only its ``nn.Linear`` modules are exchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

#: Projections of the same input, in the order in which transformers calls them; computed as one.
_JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


# torch.compile uses the mkldnn operators below; they are undocumented, and torch.jit cannot record their
# argument lists. So they are wrapped in an operator with a plain signature.
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
        rows: The number of input rows that the layout is chosen for; other numbers work too.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, rows: int) -> None:
        super().__init__()
        self.register_buffer("_packed", torch.ops.mkldnn._reorder_linear_weight(weight, rows), False)
        self.register_buffer("_bias", bias, False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        output: torch.Tensor = torch.ops.inf2kit.packed_linear(inputs, self._packed, self._bias)
        return output


class _JoinedProjections(nn.Module):
    """Computes several projections at once, returns the first and holds the others."""

    def __init__(self, linear: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self._linear = linear
        self._sizes = list(sizes)
        self.held: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor
        output, *self.held = self._linear(inputs).split(self._sizes, dim=-1)
        return output


class _HeldProjection(nn.Module):
    """Returns the next held output of the joined projections, whatever its input."""

    def __init__(self, joined: _JoinedProjections) -> None:
        super().__init__()
        self._joined = [joined]  # in a list, so that it is not registered as a submodule twice

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._joined[0].held.pop(0)
        return output


def pack(model: Any, rows: int) -> None:
    """Exchange a model's linear layers for packed ones; do nothing where this build of torch cannot.

    Args:
        model: A transformers causal language model, with its weights.
        rows: The usual number of rows of a decode step.
    """
    if not _can_pack(next(model.parameters()).dtype):
        log.warning("this build of torch cannot pack linear layers; they are computed as they are")
        return
    for parent in list(model.modules()):
        for names in _JOINED:
            linears = [getattr(parent, name, None) for name in names]
            if all(isinstance(linear, nn.Linear) for linear in linears):
                _join(parent, names, linears, rows)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                bias = None if child.bias is None else child.bias.detach()
                setattr(parent, name, PackedLinear(child.weight.detach(), bias, rows))


def _join(parent: Any, names: Sequence[str], linears: Sequence[Any], rows: int) -> None:
    weight = torch.cat([linear.weight.detach() for linear in linears])
    bias = None
    if linears[0].bias is not None:
        bias = torch.cat([linear.bias.detach() for linear in linears])
    joined = _JoinedProjections(PackedLinear(weight, bias, rows), [linear.out_features for linear in linears])
    setattr(parent, names[0], joined)
    for name in names[1:]:
        setattr(parent, name, _HeldProjection(joined))


def _can_pack(dtype: torch.dtype) -> bool:
    try:
        ones = torch.ones(1, 4, dtype=dtype)
        return bool(torch.equal(PackedLinear(torch.eye(4, dtype=dtype), None, 1)(ones), ones))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
