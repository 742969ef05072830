"""The environment of the container: the one place that writes it."""

from __future__ import annotations

from inf2kit.presets import Preset

#: Calls a worker may hold beyond the rows, so that a row that becomes free finds the next call waiting.
_SPARE_WORKERS = 2
#: Seconds after which the model server takes a worker for dead, and what the engine gets beyond its deadline.
_WORKER_S, _GRACE_S = 120.0, 60.0
#: Where the model server's sockets lie. The image makes this folder (its ``TEMP``), so it exists when Java
#: starts; the engine's own run directory does not yet.
_SCRATCH = "/home/model-server/tmp"


def environment(preset: Preset, *, gateway: bool = True, deadline_s: float | None = None) -> dict[str, str]:
    """Environment variables of an endpoint's container.

    Args:
        preset: What is deployed.
        gateway: Whether the gateway owns the endpoint's port. Without it the toolkit has the port: no
            streaming, and a ``/ping`` that answers before the model is loaded.
        deadline_s: Seconds a call may take, instead of the preset's; for asynchronous endpoints.
    """
    longest = max(_WORKER_S, (deadline_s or preset.serving.deadline_s) + _GRACE_S)
    variables = {
        "SAGEMAKER_PROGRAM": "inference.py",
        # Unset, the container starts one worker per NeuronCore. Workers are thin here: one for each call
        # that may be running.
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(preset.shapes.batch_size + _SPARE_WORKERS),
        # Bounds a worker's call and its model_fn, which returns at once; the engine ends calls before this.
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": f"{longest:.0f}",
        # Details of many long texts may be longer than the model server's 6.5 MB.
        "MMS_MAX_RESPONSE_SIZE": "20000000",
        # Workers are forked from one that has imported everything: 4 MB each instead of 330 MB.
        "MMS_PRELOAD_MODEL": "true",
        # The management API loads any code that it is sent, and its default is 0.0.0.0:8080. A Unix socket
        # keeps it from the network, and leaves the port to whoever answers /ping.
        "MMS_MANAGEMENT_ADDRESS": f"unix:{_SCRATCH}/management.sock",
        "MMS_INFERENCE_ADDRESS": "http://0.0.0.0:8080",
        # By default Java takes up to a quarter of the host's memory, which the engine needs.
        "SAGEMAKER_MODEL_SERVER_VMARGS": "-XX:-UseContainerSupport -Xmx512m -XX:+ExitOnOutOfMemoryError",
        # Bytecode that lies in the package is never run: its manifest has sources only.
        "PYTHONPYCACHEPREFIX": f"{_SCRATCH}/pycache",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if deadline_s is not None:
        variables["INF2KIT_DEADLINE_SECONDS"] = f"{deadline_s:g}"
    if gateway:
        variables["INF2KIT_GATEWAY_ADDRESS"] = "0.0.0.0:8080"
        variables["MMS_INFERENCE_ADDRESS"] = f"unix:{_SCRATCH}/model-server.sock"
    return variables
