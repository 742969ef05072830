"""CloudWatch's metric math, for each period of an alarm: IF, FILL, arithmetic and comparisons."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

#: A value for each period, the oldest first; None where there is no data.
Series = list[float | None]

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.And: lambda left, right: bool(left) and bool(right),
    ast.Or: lambda left, right: bool(left) or bool(right),
}


def compute(expression: str, series_of: Callable[[str], Series], periods: int) -> Series:
    """The values of an expression.

    Args:
        expression: Such as ``IF(calls >= 5, errors / calls)``.
        series_of: The values of a metric or another expression, by its id.
        periods: How many values there are.

    Raises:
        ValueError: the expression has what is not computed here, or is none.
    """
    spelled = re.sub(r"\bAND\b|&&", " and ", re.sub(r"\bOR\b|\|\|", " or ", expression)).strip()
    try:
        tree = ast.parse(spelled, mode="eval").body
    except SyntaxError:
        raise ValueError(f"the expression {expression!r} cannot be read") from None
    return _Computation(series_of, periods).of(tree)


class _Computation:
    def __init__(self, series_of: Callable[[str], Series], periods: int) -> None:
        self._series_of, self._periods = series_of, periods

    def of(self, node: ast.AST) -> Series:
        """The values of a part of the expression."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return [float(node.value)] * self._periods
        if isinstance(node, ast.Name):
            return self._series_of(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return [None if value is None else -value for value in self.of(node.operand)]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._pairwise(node.op, self.of(node.left), self.of(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            return self._pairwise(node.ops[0], self.of(node.left), self.of(node.comparators[0]))
        if isinstance(node, ast.BoolOp):
            values = self.of(node.values[0])
            for each in node.values[1:]:
                values = self._pairwise(node.op, values, self.of(each))
            return values
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise ValueError(f"{ast.unparse(node)!r} is not computed in this rehearsal")

    def _call(self, name: str, arguments: list[ast.expr]) -> Series:
        if name == "IF" and len(arguments) in (2, 3):
            condition, *chosen = map(self.of, arguments)
            other = chosen[1] if len(chosen) > 1 else [None] * self._periods
            return [
                None if is_so is None else (first if is_so else second)
                for is_so, first, second in zip(condition, chosen[0], other, strict=True)
            ]
        if name == "FILL" and len(arguments) == 2:
            values, filling = self.of(arguments[0]), arguments[1]
            if isinstance(filling, ast.Name) and filling.id == "REPEAT":
                return _repeated(values)
            return [
                other if value is None else value
                for value, other in zip(values, self.of(filling), strict=True)
            ]
        raise ValueError(f"the function {name} is not computed in this rehearsal")

    @staticmethod
    def _pairwise(kind: ast.AST, left: Series, right: Series) -> Series:
        values: Series = []
        for one, other in zip(left, right, strict=True):
            if one is None or other is None or (isinstance(kind, ast.Div) and other == 0):
                values.append(None)
            else:
                values.append(float(_OPERATORS[type(kind)](one, other)))
        return values


def _repeated(values: Series) -> Series:
    repeated: Series = []
    for value in values:
        repeated.append(value if value is not None else repeated[-1] if repeated else None)
    return repeated
