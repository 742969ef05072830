"""Start a local endpoint from a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from inf2kit.package import collect
from inf2kit.package.environment import container_environment
from inf2kit.presets import load_preset
from inf2kit.rehearsal import model
from inf2kit.rehearsal.container import launchers
from inf2kit.rehearsal.local.endpoint import LocalEndpoint, locked_endpoints
from inf2kit.rehearsal.local.speed import speed_variables
from inf2kit.rehearsal.local.state import EndpointState

Progress = Callable[[str], None]


def start_endpoint(
    preset_name: str,
    *,
    name: str | None = None,
    gateway: bool = True,
    variables: Mapping[str, str] | None = None,
    speed: str | None = None,
    weights: Path | None = None,
    rehearsal: bool = True,
    handler: Path | None = None,
    wait_s: float | None = 600.0,
    progress: Progress = lambda _: None,
) -> EndpointState:
    """Start a local endpoint and wait until it is in service.

    Whatever interrupts the start, including Ctrl-C, everything that was started is stopped.

    Args:
        preset_name: The preset's name, or the path of a TOML file.
        name: The EndpointName; the preset's own by default.
        gateway: Whether the gateway owns the container's port. Without it the toolkit does: no streaming.
        variables: Environment variables on top of the preset's, as one would set them on a Model.
        speed: ``published`` or the path of a calibration: the simulated backend takes its times.
        weights: A directory of weights and tokenizer; the embedded model by default.
        rehearsal: Whether the embedded model on the CPU replaces the model of a Neuron preset. False on a
            machine with a device, with compiled ``weights``.
        handler: A Python file that replaces inf2kit's ``inference.py``.
        wait_s: Seconds to wait; None returns at once, with the status ``Creating``.
        progress: Called with the name of each step.

    Raises:
        PresetError: the preset does not exist or has a wrong value.
        LocalEndpointError: an endpoint of that name is up, this one did not come into service, or the
            selected launcher is not available.
    """
    launchers.selected_launcher()
    preset = load_preset(preset_name)
    endpoint = LocalEndpoint(name or preset.endpoint_name)
    timed = speed_variables(speed, preset) if speed else {}
    endpoint.check_is_down()  # preparing the model may take a minute
    weights = weights or model.prepare(progress)
    is_ours = False
    try:
        with locked_endpoints():
            endpoint.check_is_down()
            is_ours = True
            endpoint.remove()
            progress("assembling the model directory")
            contents = collect(preset, weights, rehearsal=rehearsal, handler=handler)
            contents.materialise(endpoint.model_dir)
            endpoint.create(
                preset_name, {**container_environment(preset, gateway=gateway), **timed, **(variables or {})}
            )
            progress("starting the model server")
            host = endpoint.start_host()
        if wait_s is None:
            return endpoint.describe()
        progress("loading the model")
        return endpoint.wait_in_service(host, wait_s)
    except BaseException:
        if is_ours:
            endpoint.stop(keep_log=True)
        raise
