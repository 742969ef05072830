"""``inf2kit compile`` of a family beside Llama, by the container's optimum-neuron on the CPU double.

The double proves that optimum-neuron's code takes their configuration and weights as this kit writes them,
and computes what transformers computes. It proves nothing about a device.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.contract.neuron.test_compile import PRESET, VERSION
from tests.helpers.neuron import ROOT, find_python, run_module
from tests.helpers.servers import PATIENCE_S
from tests.helpers.small_models import write_model

#: The most different from Llama. ``optimum/test_families`` compiles all of them.
FAMILIES = ("qwen3",)
CODE = """
import inf2kit, sys
for folder in sys.argv[1:]:
    model = inf2kit.load(folder)
    print("TEXTS", [result.text for result in model.generate(["Rome is", "abcdef"], max_new_tokens=10)])
"""


def test_compiled_models_give_the_texts_of_the_cpu(tmp_path: Path) -> None:
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET, encoding="utf-8")
    sources: list[Path] = []
    compiled: list[Path] = []
    for family in FAMILIES:
        sources.append(tmp_path / family)
        write_model(family, sources[-1])
        output = tmp_path / f"{family}-packages"
        arguments = ["--model", str(sources[-1]), "--output", str(output), "--max-context-length", "32"]
        ended = run_module(VERSION, "inf2kit.cli", "compile", str(preset), *arguments)
        assert ended.returncode == 0, ended.stdout
        (manifest,) = output.glob("*/inf2kit.json")
        compiled.append(manifest.parent)
    texts = []
    for python, folders in ((find_python(VERSION), compiled), (sys.executable, sources)):
        ran = subprocess.run(
            [python, "-c", CODE, *map(str, folders)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        texts.append([line for line in ran.stdout.splitlines() if line.startswith("TEXTS")])
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(FAMILIES)
