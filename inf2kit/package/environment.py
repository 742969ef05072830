"""The environment variables of an endpoint's container."""

from __future__ import annotations

from inf2kit.presets import Preset
from inf2kit.serving import variables
from inf2kit.serving.gateway.bodies import MAX_BODY
from inf2kit.serving.model_dir import CODE_FOLDER, HANDLER

#: Workers of each engine beyond its rows, so that the next call is waiting when a sequence ends.
_SPARE_WORKERS = 2
#: Seconds after which the model server declares a worker dead, and at least so many beyond the deadline.
_WORKER_TIMEOUT_S, _GRACE_S = 120.0, 60.0
#: The folder of the model server's sockets. The image creates it (its ``TEMP``), so it exists when Java
#: starts; the engine's own run directory does not exist yet.
_SCRATCH = "/home/model-server/tmp"
_PORT = 8080


def container_environment(
    preset: Preset, *, gateway: bool = True, deadline_s: float | None = None
) -> dict[str, str]:
    """Return the environment variables of an endpoint's container.

    Args:
        preset: The preset to deploy.
        gateway: Whether the gateway owns the endpoint's port. Without it the toolkit has the port: no
            streaming, and a ``/ping`` that answers before the model is loaded.
        deadline_s: Seconds that a call may take, instead of the preset's; for asynchronous endpoints.
    """
    worker_timeout_s = max(_WORKER_TIMEOUT_S, (deadline_s or preset.serving.deadline_s) + _GRACE_S)
    workers = preset.compute.data_parallel_size * (preset.shapes.batch_size + _SPARE_WORKERS)
    environment = {
        "SAGEMAKER_PROGRAM": HANDLER.removeprefix(f"{CODE_FOLDER}/"),
        # Unset, the container starts one worker per NeuronCore. Workers only pass calls on to the engine, so
        # there is one for each call that may be running.
        variables.MODEL_SERVER_WORKERS: str(workers),
        # The limit of a worker's call and of model_fn, which returns at once. The engine ends calls earlier.
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": f"{worker_timeout_s:.0f}",
        # The gateway's limit, instead of the model server's own 6.5 MB.
        "MMS_MAX_REQUEST_SIZE": str(MAX_BODY),
        # Details of many long texts may be longer than the model server's 6.5 MB.
        "MMS_MAX_RESPONSE_SIZE": "20000000",
        # Workers are forked from one that has imported everything: 4 MB each instead of 330 MB.
        "MMS_PRELOAD_MODEL": "true",
        # The management API loads any code that it is sent, and its default is 0.0.0.0:8080. A Unix socket
        # keeps it off the network, and leaves the port to the server that answers /ping.
        "MMS_MANAGEMENT_ADDRESS": f"unix:{_SCRATCH}/management.sock",
        variables.MODEL_SERVER_ADDRESS: f"http://0.0.0.0:{_PORT}",
        # By default Java takes up to a quarter of the host's memory, which the engine needs. It passes some
        # calls a second on: its first compiler is enough, and the second one takes more time than it saves.
        "SAGEMAKER_MODEL_SERVER_VMARGS": "-XX:-UseContainerSupport -Xmx512m -XX:+ExitOnOutOfMemoryError "
        "-XX:TieredStopAtLevel=1",
        # Python never runs bytecode from the package, whose manifest has sources only.
        "PYTHONPYCACHEPREFIX": f"{_SCRATCH}/pycache",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if deadline_s is not None:
        environment[variables.DEADLINE_SECONDS] = f"{deadline_s:g}"
    if gateway:
        environment[variables.GATEWAY_ADDRESS] = f"0.0.0.0:{_PORT}"
        environment[variables.MODEL_SERVER_ADDRESS] = f"unix:{_SCRATCH}/model-server.sock"
    return environment
