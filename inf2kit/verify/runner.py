"""Verify a device: compile the probe model, then run one process after the other that holds the cores."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inf2kit.compile import local
from inf2kit.compile.export_process import child_environment
from inf2kit.compile.spec import CompileSpec
from inf2kit.fit import Architecture, estimate_memory
from inf2kit.verify import probe_model
from inf2kit.verify.endpoint_checks import check_endpoint
from inf2kit.verify.report import Answer, Report, load_questions

Progress = Callable[[str], None]

#: Seconds that the process of a group of questions may take.
_PROCESS_TIMEOUT_S = 1800
_MAX_ERROR_LENGTH = 300
#: Questions that the compiled probe's first process does not answer: they need another one, or an endpoint.
_ON_DEVICE_QUESTIONS = {"on-device-sampling"}
_ENDPOINT_QUESTIONS = {"endpoint", "restart"}


def verify(tensor_parallel_size: int, dtype: str, progress: Progress) -> Report:
    """Answer every question. One that cannot be answered gets an error, and the others continue.

    Args:
        tensor_parallel_size: NeuronCores; one device has two.
        dtype: The precision of weights and arithmetic.
        progress: Called with the name of each step.

    Raises:
        CompileError: the compiler is missing, or the probe model cannot be compiled.
    """
    local.check_compiler()
    with tempfile.TemporaryDirectory(prefix="inf2kit-verify-") as folder:
        scratch = Path(folder)
        progress("making a small random model")
        source = probe_model.write_model(scratch / "source")
        host, device = (
            _compile(source, tensor_parallel_size, dtype, on_device, progress) for on_device in (False, True)
        )
        progress("asking a process that holds the cores")
        others = _ON_DEVICE_QUESTIONS | _ENDPOINT_QUESTIONS
        answers = _run_backend_checks(host, source, scratch, set(load_questions()) - others)
        progress("asking one that samples on the device")
        answers |= _run_backend_checks(device, source, scratch, _ON_DEVICE_QUESTIONS)
        progress("starting an endpoint of it under the model server")
        answers |= check_endpoint(host, scratch, tensor_parallel_size, dtype, progress)
        _add_memory_estimate(answers["device-memory"], source, tensor_parallel_size, dtype)
    return Report.from_answers([answers[name] for name in load_questions() if name in answers])


def _compile(
    source: Path, tensor_parallel_size: int, dtype: str, on_device_sampling: bool, progress: Progress
) -> Path:
    spec = CompileSpec(str(source), None, probe_model.SHAPES, tensor_parallel_size, dtype, on_device_sampling)
    # In the scratch folder and not in the user's cache, which has no use for the probe.
    folder = source.parent / f"compiled-{on_device_sampling}"
    return local.execute(spec, progress, folder=folder).path


def _run_backend_checks(compiled: Path, source: Path, scratch: Path, names: set[str]) -> dict[str, Answer]:
    """Answer questions in a process of their own."""
    result_file = scratch / "result.json"
    result_file.unlink(missing_ok=True)
    program = [sys.executable, "-m", "inf2kit.verify.backend_checks"]
    try:
        process = subprocess.run(
            [*program, str(compiled), str(source), str(result_file)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PROCESS_TIMEOUT_S,
            env=child_environment(),
        )
        lines = process.stderr.strip().splitlines()
        last = lines[-1] if lines else f"it ended with status {process.returncode}"
        error = None if process.returncode == 0 else last.removeprefix("inf2kit.errors.ModelDirectoryError: ")
    except subprocess.TimeoutExpired:
        error = f"no answer after {_PROCESS_TIMEOUT_S} s"
    if error:
        return {name: Answer(name, error=error[:_MAX_ERROR_LENGTH]) for name in names}
    results: dict[str, dict[str, Any]] = json.loads(result_file.read_text(encoding="utf-8"))
    return {name: Answer(name, result.get("passed"), result) for name, result in results.items()}


def _add_memory_estimate(answer: Answer, source: Path, tensor_parallel_size: int, dtype: str) -> None:
    """Put the computed memory of the cores beside the driver's figures."""
    if answer.error:
        return
    if not answer.result["bytes"]:
        answer.error = "the driver shows no memory under /sys/devices/virtual/neuron_device"
        return
    estimate = estimate_memory(
        Architecture.find(str(source)), probe_model.SHAPES, tensor_parallel_size, dtype
    )
    answer.result["estimate_for_the_first_core"] = estimate.first_core
    answer.result["estimate_for_each_other_core"] = estimate.per_core
