"""The compiler's process cannot be answered by accident, whatever a library asks there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from tests.helpers.neuron import ROOT, find_python
from tests.helpers.servers import wait_until

PRESET = """
description = "one core"
status = "not run on a device"
[model]
id = "meta-llama/Llama-2-7b-hf"
gated = true
[shapes]
batch_size = 2
sequence_length = 48
[compute]
backend = "neuron"
instance_type = "ml.inf2.xlarge"
tensor_parallel_size = 1
dtype = "float32"
[serving]
queue_size = 4
"""


def test_a_compilation_has_nothing_on_its_standard_input(small_weights: Path, tmp_path: Path) -> None:
    preset = tmp_path / "own.toml"
    preset.write_text(PRESET, encoding="utf-8")
    command = [
        find_python("0.4.1"),
        "-m",
        "inf2kit.cli",
        "compile",
        str(preset),
        "--model",
        str(small_weights),
    ]
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "INF2KIT_HOME": str(tmp_path / "home")},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:

        def compiler() -> psutil.Process | None:
            for child in psutil.Process(process.pid).children():
                if "inf2kit.compile.export" in child.cmdline():
                    return child
            return None

        child = wait_until(compiler, 120, "the compiler is started")
        assert Path(f"/proc/{child.pid}/fd/0").resolve() == Path("/dev/null")
        child.kill()
        process.communicate(b"y\n", timeout=120)
