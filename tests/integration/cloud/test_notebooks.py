"""The notebooks, executed from the first cell to the last: on this machine, and against the rehearsal cloud.

``make notebooks`` saves their outputs.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import BIN, ROOT, STORE, shell_environment

FOLDER = ROOT / "notebooks"
#: Set by ``make notebooks``.
SAVES = "INF2KIT_SAVE_NOTEBOOKS"
#: Set by ``make notebooks-3.12``: the Python of the kernels, in place of this one.
PYTHON = "INF2KIT_NOTEBOOK_PYTHON"
SOURCES = sorted(FOLDER.glob("*.py"))
CLOUD_PRESET = "tinyllama-1.1b-starter"
#: What needs no cloud goes to a worker of its own.
WITHOUT_CLOUD = pytest.mark.xdist_group("notebooks-on-this-machine")


def test_sources_and_notebooks_are_the_same() -> None:
    assert [path.stem for path in SOURCES] == sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for path in SOURCES:
        source, saved = jupytext.read(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
        assert [(cell.cell_type, cell.source) for cell in source.cells] == [
            (cell.cell_type, cell.source) for cell in saved.cells
        ], f"{path.name} has changed; run make notebooks"
        assert any("parameters" in cell.metadata.get("tags", ()) for cell in saved.cells)
        assert all(cell.outputs or cell.execution_count for cell in saved.cells if cell.cell_type == "code")
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


@WITHOUT_CLOUD
@pytest.mark.parametrize("name", ["01-rehearse", "04-plan", "06-bring-your-handler"])
def test_a_notebook_runs_on_this_machine(name: str, empty_home: Path) -> None:
    output = execute(name, {"INF2KIT_HOME": str(empty_home), "HOME": str(empty_home)}, {})
    assert ("no local endpoints" in output) or name == "04-plan"


@WITHOUT_CLOUD
def test_the_benchmark_shows_the_published_tables(empty_home: Path) -> None:
    variables = {"INF2KIT_HOME": str(empty_home), "HOME": str(empty_home)}
    output = execute("03-benchmark", variables, {"PRESET": "llama2-7b-latency"})
    assert "simulated" in output


def test_llama_is_deployed_called_and_destroyed(
    cloud: CloudSettings, home: Path, aws: Callable[..., Any], small_weights: Path
) -> None:
    # A real model: the simulated backend chooses random tokens. Its first layers do where no text is shown.
    source = "embedded" if os.environ.get(SAVES) else str(small_weights)
    environment = shell_environment(cloud, home)
    command = [
        BIN / "inf2kit",
        "package",
        source,
        "--preset",
        CLOUD_PRESET,
        "--rehearsal",
        "--output",
        STORE,
    ]
    uri = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[
        -1
    ]
    execute("02-deploy-llama", environment, {"PRESET": CLOUD_PRESET, "PACKAGE": uri, "BUCKET": "models"})
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []


def test_long_texts_are_answered_asynchronously(
    cloud: CloudSettings, home: Path, aws: Callable[..., Any], package: Callable[..., str]
) -> None:
    values = {"PRESET": CLOUD_PRESET, "PACKAGE": package(CLOUD_PRESET), "NEW_TOKENS": 200}
    execute("05-asynchronous", shell_environment(cloud, home), values)
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []


class Kernel(AsyncKernelManager):
    """Starts kernels with the Python that ``PYTHON`` names."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:  # noqa: ARG002
        return [os.environ[PYTHON], "-m", "ipykernel_launcher", "-f", self.connection_file]


def execute(name: str, environment: Mapping[str, str], parameters: Mapping[str, object]) -> str:
    """Run every cell in a kernel of its own, and return what they printed."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    assigned = nbformat.v4.new_code_cell("\n".join(f"{key} = {value!r}" for key, value in parameters.items()))
    notebook.cells.insert(place + 1, assigned)
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    # A plain terminal, as a notebook's commands have.
    variables = {
        **os.environ,
        **environment,
        "PATH": path,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_manager_class=Kernel if os.environ.get(PYTHON) else AsyncKernelManager,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute(env=variables)
    if os.environ.get(PYTHON):
        assert notebook.metadata["language_info"]["version"].startswith("3.12.")
    del notebook.cells[place + 1]
    if os.environ.get(SAVES):
        save(name, notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/markdown", "") for output in outputs
    )


def save(name: str, notebook: nbformat.NotebookNode) -> None:
    """Write the notebook with its outputs, which do not say where they were made, nor how long that took."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, FOLDER / f"{name}.ipynb")


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join the pieces of one stream, and leave out what is of the test's own machine."""
    results: list[nbformat.NotebookNode] = []
    for output in outputs:
        if "text" in output and results and results[-1].get("name") == output.name:
            results[-1].text += output.text
        else:
            results.append(output)
    for output in results:
        if "text" in output:
            output.text = cleaned(output.text)
    return results


def cleaned(text: str) -> str:
    """Return a text without spinners, colours and seconds, and with the test's folders as a user's."""
    text = text.replace(str(ROOT), ".").replace("\r\n", "\n")
    text = re.sub(r"[^\n]*\r|\x1b\[\d*[Km]", "", text)
    text = re.sub(r"^\[ *[\d.]+ s\] | after \d+ s(?=;)", "", text, flags=re.MULTILINE)
    return re.sub(r"/[\w./-]*/(home\d+|pytest-[\w-]+/popen-\w+/home\d+)\b", "~", text)
