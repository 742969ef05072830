"""Checks of a whole endpoint on the device: gateway, model server, toolkit and engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import inf2kit
from inf2kit import toml
from inf2kit.errors import CompileError, EndpointError, Inf2KitError
from inf2kit.presets import Compute, Model, Preset, Serving
from inf2kit.verify import probe_model
from inf2kit.verify.report import Answer

Progress = Callable[[str], None]
#: Generates the text that follows a prompt.
Generate = Callable[[str], str]

_READY_TIMEOUT_S = 900
_KILL_TIMEOUT_S = 60
_POLL_S = 0.2
_ENDPOINT = "inf2kit-verify-device"
_PROMPT = "ab"


def check_endpoint(
    compiled: Path, scratch: Path, tensor_parallel_size: int, dtype: str, progress: Progress
) -> dict[str, Answer]:
    """Start an endpoint of the probe model, call it, kill its engine, and call it again.

    Returns:
        The answers ``endpoint`` and ``restart``.
    """
    endpoint, restart = Answer("endpoint"), Answer("restart")
    try:
        with _start_endpoint(compiled, scratch, tensor_parallel_size, dtype) as (seconds, generate):
            text = generate(_PROMPT)
            endpoint.result = {"ready_after_s": seconds, "first_call_after_ready": bool(text)}
            endpoint.passed = bool(text)
            progress("killing its engine")
            _kill_engine()
            began = time.monotonic()
            text_again = _generate_when_ready(generate, began + _READY_TIMEOUT_S)
            restart.result = {"seconds": time.monotonic() - began, "same_text": text_again == text}
            restart.passed = text_again == text
    except (Inf2KitError, OSError, LookupError, psutil.Error) as error:
        for answer in (endpoint, restart):
            if not answer.result:
                answer.error = str(error).partition("\n")[0]
    return {answer.name: answer for answer in (endpoint, restart)}


@contextmanager
def _start_endpoint(
    compiled: Path, scratch: Path, tensor_parallel_size: int, dtype: str
) -> Iterator[tuple[float, Generate]]:
    """Start a local endpoint; yield the seconds until it was in service, and a function that calls it."""
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint
    from inf2kit.rehearsal.local.start import start_endpoint

    preset = scratch / "verify-device.toml"
    preset.write_text(toml.dumps(_preset(tensor_parallel_size, dtype).to_dict()), encoding="utf-8")
    began = time.monotonic()
    try:
        state = start_endpoint(
            str(preset), name=_ENDPOINT, weights=compiled, rehearsal=False, wait_s=_READY_TIMEOUT_S
        )
        # Each call is asked for once: how long a restart takes is measured with them.
        client = inf2kit.Endpoint(_ENDPOINT, endpoint_url=state.url).with_options(max_retries=0)
        yield time.monotonic() - began, lambda prompt: client.generate(prompt, max_new_tokens=8).text
    finally:
        LocalEndpoint(_ENDPOINT).stop()


def _generate_when_ready(generate: Generate, deadline: float) -> str:
    """Call until the new engine answers; until then the endpoint refuses calls."""
    while True:
        try:
            return generate(_PROMPT)
        except EndpointError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _preset(tensor_parallel_size: int, dtype: str) -> Preset:
    if tensor_parallel_size <= 2:
        instance_type = "ml.inf2.xlarge"
    else:
        instance_type = "ml.inf2.24xlarge" if tensor_parallel_size <= 12 else "ml.inf2.48xlarge"
    return Preset(
        name=_ENDPOINT,
        description="the probe of verify-device",
        status="a probe",
        model=Model("inf2kit/probe", gated=False),
        shapes=probe_model.SHAPES,
        compute=Compute("neuron", instance_type, (instance_type,), tensor_parallel_size, dtype),
        serving=Serving(queue_size=8),
    )


def _kill_engine() -> None:
    from inf2kit.rehearsal.container import processes
    from inf2kit.rehearsal.local.endpoint import LocalEndpoint

    state = LocalEndpoint(_ENDPOINT).read_state()
    for process in processes.list_processes(Path(state.run_dir)) if state else ():
        with contextlib.suppress(psutil.NoSuchProcess):  # another process may end meanwhile
            if "inf2kit.serving.engine.server" in process.cmdline():
                process.kill()
                process.wait(_KILL_TIMEOUT_S)
                return
    raise CompileError("the endpoint has no engine to kill")
