"""Asking a device: compile the probe, then one process after the other that holds the cores."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import inf2kit
from inf2kit import toml
from inf2kit.compile import local
from inf2kit.compile.export_process import child_environment
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError, EndpointError, Inf2KitError
from inf2kit.fit import Architecture, estimate_memory
from inf2kit.presets import Compute, Model, Preset, Serving
from inf2kit.serving.shapes import StaticShapes
from inf2kit.verify import probe_model
from inf2kit.verify.questions import questions
from inf2kit.verify.report import Answer, Report

Progress = Callable[[str], None]

_SHAPES = StaticShapes(batch_size=4, sequence_length=512, max_context_length=256)
_PHASE_S = 1800
_READY_S = 900
_POLL_S = 0.2
_ENDPOINT = "inf2kit-verify-device"


def verify(tensor_parallel_size: int, dtype: str, progress: Progress) -> Report:
    """Ask every question; what cannot be asked is said so, and the others are asked.

    Args:
        tensor_parallel_size: NeuronCores; two are those of one device.
        dtype: Of weights and arithmetic.
        progress: Told each step.

    Raises:
        CompileError: the compiler is missing, or the probe cannot be compiled.
    """
    local.check_compiler()
    with tempfile.TemporaryDirectory(prefix="inf2kit-verify-") as folder:
        scratch = Path(folder)
        progress("making a small random model")
        source = probe_model.make(scratch / "source")
        answers: dict[str, Answer] = {}
        host, device = (
            _compiled(source, tensor_parallel_size, dtype, on_device, progress) for on_device in (False, True)
        )
        progress("asking a process that holds the cores")
        elsewhere = {"on-device-sampling", "endpoint", "restart"}
        answers |= _phase(host, source, scratch, set(questions()) - elsewhere)
        progress("asking one that samples on the device")
        answers |= _phase(device, source, scratch, {"on-device-sampling"})
        progress("starting an endpoint of it under the model server")
        answers |= _endpoint(host, scratch, tensor_parallel_size, dtype, progress)
        _judge_memory(answers, source, tensor_parallel_size, dtype)
    return Report.of([answers[name] for name in questions() if name in answers])


def _compiled(source: Path, cores: int, dtype: str, on_device: bool, progress: Progress) -> Path:
    spec = CompileSpec(str(source), None, _SHAPES, cores, dtype, on_device)
    # In the probe's own folder, not in the user's: it is of use to nobody else.
    folder = source.parent / f"compiled-{on_device}"
    plan = dataclasses.replace(local.plan(spec, gated=False), folder=folder, is_compiled=False)
    return local.execute(plan, progress).path


def _phase(compiled: Path, source: Path, scratch: Path, names: set[str]) -> dict[str, Answer]:
    """One process, and its answers."""
    result = scratch / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "inf2kit.verify.backend_checks", str(compiled), str(source), str(result)]
    try:
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PHASE_S,
            env=child_environment(),
        )
        lines = ended.stderr.strip().splitlines()
        last = lines[-1] if lines else f"it ended with status {ended.returncode}"
        error = None if ended.returncode == 0 else last.removeprefix("inf2kit.errors.ModelDirectoryError: ")
    except subprocess.TimeoutExpired:
        error = f"no answer after {_PHASE_S} s"
    if error:
        return {name: Answer(name, error=error[:300]) for name in names}
    found: dict[str, dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
    return {name: Answer(name, each.get("passed"), each) for name, each in found.items()}


def _judge_memory(answers: dict[str, Answer], source: Path, cores: int, dtype: str) -> None:
    """Beside what the driver says, what was computed beforehand."""
    answer = answers["device-memory"]
    if answer.error:
        return
    if not answer.found["bytes"]:
        answer.error = "the driver shows no memory under /sys/devices/virtual/neuron_device"
        return
    answer.found["estimate_for_a_core"] = estimate_memory(
        Architecture.find(str(source)), _SHAPES, cores, dtype
    ).per_core


def _endpoint(compiled: Path, scratch: Path, cores: int, dtype: str, progress: Progress) -> dict[str, Answer]:
    """A package of the probe behind gateway, model server and toolkit; its engine is then killed."""
    answers = {name: Answer(name) for name in ("endpoint", "restart")}
    try:
        with _up(compiled, scratch, cores, dtype) as (seconds, caller):
            first = caller("ab")
            answers["endpoint"].found = {"ready_after_s": seconds, "first_call_after_ready": bool(first)}
            answers["endpoint"].passed = bool(first)
            progress("killing its engine")
            _kill_engine()
            began = time.monotonic()
            again = _answer_of(caller, began + _READY_S)
            answers["restart"].found = {"seconds": time.monotonic() - began, "same_text": again == first}
            answers["restart"].passed = again == first
    except (Inf2KitError, OSError, LookupError) as error:
        for answer in answers.values():
            if not answer.found:
                answer.error = str(error).partition("\n")[0]
    return answers


def _answer_of(caller: Callable[[str], str], deadline: float) -> str:
    """The first answer after the engine's end; until then calls are refused."""
    while True:
        try:
            return caller("ab")
        except EndpointError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


@contextmanager
def _up(
    compiled: Path, scratch: Path, cores: int, dtype: str
) -> Iterator[tuple[float, Callable[[str], str]]]:

    from inf2kit.rehearsal.local.endpoint import LocalEndpoint
    from inf2kit.rehearsal.local.start import start_endpoint

    preset = scratch / "verify-device.toml"
    preset.write_text(toml.dumps(_preset(cores, dtype).to_dict()), encoding="utf-8")
    began = time.monotonic()
    try:
        state = start_endpoint(
            str(preset), name=_ENDPOINT, weights=compiled, rehearsal=False, wait_s=_READY_S
        )
        client = inf2kit.Endpoint(_ENDPOINT, endpoint_url=state.url)
        yield time.monotonic() - began, lambda text: client.generate(text, max_new_tokens=8).text
    finally:
        LocalEndpoint(_ENDPOINT).stop()


def _preset(cores: int, dtype: str) -> Preset:
    instance = "ml.inf2.xlarge" if cores <= 2 else "ml.inf2.24xlarge" if cores <= 12 else "ml.inf2.48xlarge"
    return Preset(
        name=_ENDPOINT,
        description="the probe of verify-device",
        status="a probe",
        model=Model("inf2kit/probe", gated=False),
        shapes=_SHAPES,
        compute=Compute("neuron", instance, (instance,), cores, dtype),
        serving=Serving(queue_size=8),
    )


def _kill_engine() -> None:
    from inf2kit.rehearsal.container import processes
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    state = LocalEndpoint(_ENDPOINT).read_state()
    for process in processes.list_processes(Path(state.run_dir)) if state else ():
        if "inf2kit.serving.engine.server" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
    raise CompileError("the endpoint has no engine to kill")
