"""Families beside Llama, compiled by the container's optimum-neuron on the CPU double.

The double proves that optimum-neuron's code takes their configuration and weights as this kit writes them,
and computes what transformers computes. It proves nothing about a device.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.neuron.test_compile import PRESET, VERSION
from tests.helpers.neuron import ROOT, find_python, run_module
from tests.helpers.servers import PATIENCE_S
from tests.helpers.small_models import write_model

CODE = (
    "import inf2kit, sys; m = inf2kit.load(sys.argv[1]); "
    "print('TEXTS', [r.text for r in m.generate(['Rome is', 'abcdef'], max_new_tokens=10)])"
)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_compiled_model_gives_the_texts_of_the_cpu(family: str, tmp_path: Path) -> None:
    """These differ most from Llama: biases of the attention, norms and sizes of the heads."""
    write_model(family, tmp_path / family)
    preset, output = tmp_path / "own.toml", tmp_path / "packages"
    preset.write_text(PRESET, encoding="utf-8")
    arguments = ["--model", str(tmp_path / family), "--output", str(output), "--max-context-length", "32"]
    ended = run_module(VERSION, "inf2kit.cli", "compile", str(preset), *arguments)
    assert ended.returncode == 0, ended.stdout
    (manifest,) = output.glob("*/inf2kit.json")
    texts = []
    for python, folder in ((find_python(VERSION), manifest.parent), (sys.executable, tmp_path / family)):
        ran = subprocess.run(
            [python, "-c", CODE, str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        texts += [line for line in ran.stdout.splitlines() if line.startswith("TEXTS")]
    assert texts[0] == texts[1]
