"""The names of ``inf2kit``: all of them there, and none of them heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import inf2kit
from inf2kit import errors

HEAVY = {
    "anyio",
    "boto3",
    "botocore",
    "click",
    "httpx",
    "numpy",
    "psutil",
    "sagemaker",
    "torch",
    "transformers",
    "uvicorn",
}


def test_the_public_names_are_sorted_and_importable() -> None:
    assert inf2kit.__all__ == sorted(inf2kit.__all__)
    assert set(dir(inf2kit)) == set(inf2kit.__all__)
    for name in inf2kit.__all__:
        assert getattr(inf2kit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = inf2kit.nothing


def test_every_public_error_is_exported() -> None:
    public = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {"Inf2KitError", "EndpointError", "RequestError"} <= public
    assert public <= set(inf2kit.__all__)
    for name in public:
        assert getattr(inf2kit, name) is getattr(errors, name)
        assert issubclass(getattr(inf2kit, name), inf2kit.Inf2KitError)


def test_every_failed_call_is_an_endpoint_error_that_the_docs_name() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.EndpointError)
    }
    page = (Path(inf2kit.__file__).parents[1] / "docs" / "client.md").read_text(encoding="utf-8")
    tree = page.partition("## Errors")[2].partition("```")[2].partition("```")[0]
    assert set(re.findall(r"\w+Error", tree)) == kinds
    for name in kinds - {"CallTooLongError"}:
        error = getattr(inf2kit, name)("x")
        assert (error.request_id, error.attempts, error.status, error.code) == (None, 0, None, None)


@pytest.mark.parametrize("statement", ["import inf2kit", "from inf2kit import Endpoint, load_preset"])
def test_the_import_is_light(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & {module.partition(".")[0] for module in modules.split()}
