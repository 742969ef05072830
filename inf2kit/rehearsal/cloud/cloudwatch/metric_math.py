"""CloudWatch's metric math over the periods of an alarm: IF, FILL, arithmetic and comparisons."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

#: A value for each period, the oldest first; None for a period without data.
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
    """Compute the values of an expression.

    Args:
        expression: Such as ``IF(calls >= 5, errors / calls)``.
        series_of: Returns the values of a metric or another expression by its id.
        periods: The number of values.

    Raises:
        ValueError: the expression cannot be read, or has an operation that is not simulated.
    """
    python = re.sub(r"\bAND\b|&&", " and ", re.sub(r"\bOR\b|\|\|", " or ", expression)).strip()
    try:
        tree = ast.parse(python, mode="eval").body
    except SyntaxError:
        raise ValueError(f"the expression {expression!r} cannot be read") from None
    return _Computation(series_of, periods).evaluate(tree)


class _Computation:
    def __init__(self, series_of: Callable[[str], Series], periods: int) -> None:
        self._series_of, self._periods = series_of, periods

    def evaluate(self, node: ast.AST) -> Series:
        """Compute the values of one node of the expression."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return [float(node.value)] * self._periods
        if isinstance(node, ast.Name):
            return self._series_of(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return [None if value is None else -value for value in self.evaluate(node.operand)]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._pairwise(node.op, self.evaluate(node.left), self.evaluate(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            return self._pairwise(node.ops[0], self.evaluate(node.left), self.evaluate(node.comparators[0]))
        if isinstance(node, ast.BoolOp):
            values = self.evaluate(node.values[0])
            for operand in node.values[1:]:
                values = self._pairwise(node.op, values, self.evaluate(operand))
            return values
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise ValueError(f"{ast.unparse(node)!r} is not computed in this rehearsal")

    def _call(self, name: str, arguments: list[ast.expr]) -> Series:
        if name == "IF" and len(arguments) in (2, 3):
            condition, then, *rest = map(self.evaluate, arguments)
            otherwise = rest[0] if rest else [None] * self._periods
            return [
                None if test is None else (first if test else second)
                for test, first, second in zip(condition, then, otherwise, strict=True)
            ]
        if name == "FILL" and len(arguments) == 2:
            values, filler = self.evaluate(arguments[0]), arguments[1]
            if isinstance(filler, ast.Name) and filler.id == "REPEAT":
                return _fill_forward(values)
            return [
                fill if value is None else value
                for value, fill in zip(values, self.evaluate(filler), strict=True)
            ]
        raise ValueError(f"the function {name} is not computed in this rehearsal")

    @staticmethod
    def _pairwise(node: ast.AST, left: Series, right: Series) -> Series:
        values: Series = []
        for first, second in zip(left, right, strict=True):
            if first is None or second is None or (isinstance(node, ast.Div) and second == 0):
                values.append(None)
            else:
                values.append(float(_OPERATORS[type(node)](first, second)))
        return values


def _fill_forward(values: Series) -> Series:
    series: Series = []
    for value in values:
        series.append(value if value is not None else series[-1] if series else None)
    return series
