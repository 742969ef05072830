"""``code/`` of a model directory: what the container needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from inf2kit.serving.settings import Settings


def test_the_model_directory_holds_what_the_container_needs(model_dir: Path) -> None:
    code = model_dir / "code"
    for name in ("inference.py", "inf2kit/serving/gateway/gateway.py", "vendor/uvicorn/__init__.py"):
        assert (code / name).is_file()
    assert not (code / "requirements.txt").exists(), "pip would need a network at every start"
    assert not list(code.rglob("*.so")), "pure Python only"
    assert not list(code.rglob("__pycache__"))
    assert Settings.read(model_dir, {}).shapes.batch_size == 8


def test_the_container_code_imports_with_nothing_but_the_package(model_dir: Path) -> None:
    """The gateway's imports come from code/ alone, except psutil, which the model server brings."""
    code = model_dir / "code"
    script = (
        f"import sys; sys.path[:0] = [{str(code)!r}, {str(code / 'vendor')!r}];"
        "import httpx, uvicorn; from inf2kit.serving import wire;"
        "from inf2kit.serving.gateway import gateway;"
        "modules = (gateway, httpx, uvicorn, wire);"
        "assert all(module.__file__.startswith(sys.path[0]) for module in modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
