"""What ships runs on Python 3.10, the container's version.

Its syntax is checked everywhere, and so are its types, by mypy with ``python_version = "3.10"``. Where this
machine has a Python 3.10, every module is imported by it too. The summary of the run says which was done.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inf2kit.compile.job_bundle import bundle

#: Packages that the image brings, and a bare Python 3.10 lacks.
IMAGE_PACKAGES = {"boto3", "botocore", "huggingface_hub", "numpy", "optimum", "psutil", "tokenizers", "torch"}
IMAGE_PACKAGES |= {"safetensors", "sagemaker_inference", "transformers"}
#: Prints the module that is missing for each module that cannot be imported, and the version of Python.
IMPORT_ALL = """
import importlib, json, platform, sys
missing = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing[name] = error.name
print(json.dumps([platform.python_version(), missing]))
"""


@pytest.fixture
def job_dir(tmp_path: Path) -> Path:
    """The input of a compilation job's container."""
    for name, path in bundle().items():
        (tmp_path / "job" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "job" / name)
    return tmp_path / "job"


@pytest.fixture(scope="session")
def python_310() -> str | None:
    """A Python 3.10: of ``make container-3.10``, of PATH, or of pyenv."""
    candidates = [
        Path(sys.prefix) / "container-3.10/bin/python",
        Path(shutil.which("python3.10") or "/none"),
        *sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10")),
    ]
    for candidate in filter(os.path.exists, candidates):
        # pyenv's shim exists without a Python behind it.
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return str(candidate)
    return None


def import_all(python: str, modules: list[str], path: list[Path]) -> tuple[str, int]:
    """Import modules; return the version of Python, and how many need a package of the image."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-c", IMPORT_ALL, *modules]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr
    version, missing = json.loads(output.stdout.splitlines()[-1])
    others = {name: needs for name, needs in missing.items() if needs.partition(".")[0] not in IMAGE_PACKAGES}
    assert others == {}, "only what the image brings may be missing"
    return version, len(missing)


def find_modules(folder: Path, package: str) -> list[str]:
    """List the modules of a package, without ``__main__``."""
    paths = [path.relative_to(folder).with_suffix("") for path in sorted((folder / package).rglob("*.py"))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if not name.endswith("__main__")]


def test_the_syntax_of_what_ships_is_python_310(model_dir: Path, job_dir: Path) -> None:
    sources = [*(model_dir / "code").rglob("*.py"), *job_dir.rglob("*.py")]
    assert len(sources) > 200
    for source in sources:
        ast.parse(source.read_bytes(), str(source), feature_version=(3, 10))


def test_what_ships_is_imported_by_python_310(
    model_dir: Path, python_310: str | None, figure: Callable[[str], None]
) -> None:
    if python_310 is None:
        figure("no Python 3.10 on this machine: syntax and types of what ships only")
        return
    code = model_dir / "code"
    modules = ["inference", "httpx", "uvicorn", "prometheus_client", *find_modules(code, "inf2kit")]
    version, without = import_all(python_310, modules, [code, code / "vendor"])
    rest = f", except {without} that need the image's packages" if without else ""
    figure(f"Python {version}: imported everything that ships ({len(modules)} modules){rest}")


def test_the_code_of_a_compilation_job_is_imported_by_python_310(
    job_dir: Path, python_310: str | None
) -> None:
    """The code of its container, except what the image has: boto3, the hub's client, optimum-neuron."""
    if python_310 is None:
        return
    modules = ["inf2kit.compile.job_entrypoint", "inf2kit.compile.export", "inf2kit.catalog"]
    assert import_all(python_310, modules, [job_dir, job_dir / "vendor"])[1] == 0
    script = "from inf2kit.catalog import image; image()"
    environment = {"PYTHONPATH": f"{job_dir}:{job_dir / 'vendor'}"}
    subprocess.run([python_310, "-c", script], env=environment, check=True)
