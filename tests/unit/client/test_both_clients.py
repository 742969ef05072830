"""``Endpoint`` and ``AsyncEndpoint`` repeat each other's signatures: their results differ, and no more."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import get_overloads

from inf2kit import AsyncEndpoint, AsyncJob, AsyncTextStream, Endpoint, Job, TextStream

#: What one of a pair has alone: a client of boto3 cannot be awaited, and what is awaited is closed too.
ALONE = {
    "Endpoint": set(),
    "AsyncEndpoint": {"aclose", "__aenter__", "__aexit__"},
    "TextStream": {"close", "__iter__", "__next__", "__enter__", "__exit__"},
    "AsyncTextStream": {"aclose", "__aiter__", "__anext__", "__aenter__", "__aexit__"},
    "Job": {"look", "not_yet", "statuses"},
    "AsyncJob": set(),
}
PAIRS = [(Endpoint, AsyncEndpoint), (TextStream, AsyncTextStream), (Job, AsyncJob)]


def methods(kind: type[Any]) -> dict[str, Callable[..., Any]]:
    """The public methods of a class, and those of Python's protocols, by their names."""
    ignored = {"__init_subclass__", "__class__", "__new__", "__init__", "__repr__"}
    return {
        name: getattr(kind, name)
        for each in kind.__mro__[:-1]
        for name in vars(each)
        if callable(getattr(kind, name)) and name not in ignored
        if not name.startswith("_") or (name.startswith("__") and name.endswith("__"))
    }


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any, Any]]:
    return [
        (each.name, each.kind, each.default, each.annotation)
        for each in inspect.signature(method).parameters.values()
        if each.name not in ("self", "client")
    ]


@pytest.mark.parametrize(("sync", "awaitable"), PAIRS, ids=lambda kind: kind.__name__)
def test_they_have_the_same_methods(sync: type[Any], awaitable: type[Any]) -> None:
    names = set(methods(sync)) - ALONE[sync.__name__]
    assert names == set(methods(awaitable)) - ALONE[awaitable.__name__]
    assert len(names) >= 1


@pytest.mark.parametrize("name", [name for name in methods(Endpoint) if not name.startswith("__")])
def test_a_method_takes_the_same(name: str) -> None:
    sync, awaitable = methods(Endpoint)[name], methods(AsyncEndpoint)[name]
    if name != "submit":
        assert len(get_overloads(sync)) == len(get_overloads(awaitable))
    for one, other in zip([sync, *get_overloads(sync)], [awaitable, *get_overloads(awaitable)], strict=True):
        assert parameters(one) == parameters(other)


def test_they_are_made_with_the_same() -> None:
    assert parameters(Endpoint.__init__) == parameters(AsyncEndpoint.__init__)
    assert "client" in inspect.signature(Endpoint).parameters
    assert "client" not in inspect.signature(AsyncEndpoint).parameters


@pytest.mark.parametrize("kind", [Endpoint, AsyncEndpoint])
def test_each_parameter_is_described(kind: type[Any]) -> None:
    """By its own docstring, or by that of the method that it points to."""
    for name, method in {"__init__": kind.__init__, **methods(kind)}.items():
        if name.startswith("__") and name != "__init__":
            continue
        documentation = inspect.getdoc(kind if name == "__init__" else method) or ""
        if re.search(rf"as\s+``Endpoint\.{name}``", documentation):
            documentation = inspect.getdoc(getattr(Endpoint, name)) or ""
        described = set(re.findall(r"^\s+\*{0,2}(\w+): ", documentation, re.M))
        taken = {each for each in inspect.signature(method).parameters if each not in ("self", "cls")}
        assert taken <= described, (name, taken - described)
