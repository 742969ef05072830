"""The settings of one endpoint: the compiled model's from the manifest, the rest from the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving import variables
from inf2kit.serving.model_dir import FORMAT, MANIFEST
from inf2kit.serving.shapes import StaticShapes

_MAX_PORT = 65_535


@dataclass(frozen=True)
class Settings:
    """The settings of one endpoint, which its worker, supervisor, engine and gateway share.

    Attributes:
        model_dir: The model package as SageMaker unpacks it, read-only.
        run_dir: Folder for sockets, locks and state files; one per container.
        backend: ``neuron``, ``cpu`` or ``simulated``.
        model_name: The model's name in chat completions.
        dtype: Precision of weights and arithmetic.
        shapes: The static shapes the model was compiled for.
        queue_size: Prompts that may wait for a row of each engine.
        prefills_per_step: Most prefills, each of prompts or of chunks of long ones, between two decode steps.
        deadline_s: Seconds after its arrival at which a call is answered with the tokens it has.
        gateway_address: ``host:port`` of the gateway; None for plain toolkit mode, without a gateway.
        model_server_address: Address of the model server, for the gateway: ``unix:PATH`` or a URL.
        model_server_workers: Calls that the model server takes at once.
        notice: What is simulated in this endpoint; every answer has it among its warnings.
        stall_s: Seconds without a step after which the engine counts as stuck; None for the backend's value.
        torch_threads: Threads of each engine of the CPU backend; None for one on each core.
        simulated: What the simulated backend is to do, by the names in ``backend.simulated``.
        stream_deadline_s: Seconds after its arrival at which a stream ends; None for ``deadline_s``.
        tensor_parallel_size: NeuronCores of each engine.
        engines: Number of engines, which share the calls.
        min_engines: Engines that must serve for the endpoint to be healthy.
        engine: Number of the engine that this process is, from 0.
    """

    model_dir: Path
    run_dir: Path
    backend: str
    model_name: str
    dtype: str
    shapes: StaticShapes
    queue_size: int
    prefills_per_step: int
    deadline_s: float
    gateway_address: str | None
    model_server_address: str
    model_server_workers: int
    notice: str | None
    stall_s: float | None
    torch_threads: int | None
    simulated: Mapping[str, float]
    stream_deadline_s: float | None = None
    tensor_parallel_size: int = 1
    engines: int = 1
    min_engines: int = 1
    engine: int = 0

    def limit_s(self, *, stream: bool) -> float:
        """Seconds after its arrival at which a stream, or a call for a whole answer, ends."""
        return self.stream_deadline_s if stream and self.stream_deadline_s is not None else self.deadline_s

    def engine_dir(self, engine: int) -> Path:
        """The folder of an engine: its socket, and why it ended. Several engines have one each."""
        return self.run_dir if self.engines == 1 else self.run_dir / f"engine-{engine}"

    def socket_path(self, engine: int) -> Path:
        """An engine's Unix socket."""
        return self.engine_dir(engine) / "engine.sock"

    def visible_cores(self, engine: int) -> str:
        """The NeuronCores of an engine as the runtime takes them: an index, or a range with both ends."""
        first = engine * self.tensor_parallel_size
        last = first + self.tensor_parallel_size - 1
        return str(first) if first == last else f"{first}-{last}"

    @property
    def max_prompts(self) -> int:
        """Most prompts of one engine, and of one call: the rows and the queue together."""
        return self.shapes.batch_size + self.queue_size

    @classmethod
    def read(cls, model_dir: str | Path, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings of the package in ``model_dir``.

        Raises:
            ModelDirectoryError: the manifest is missing or incomplete, or a variable has a wrong value.
        """
        model_dir = Path(model_dir)
        manifest = _manifest(model_dir)
        numbers = _numbers(environ)
        try:
            preset = manifest["preset"]
            compute, serving = preset["compute"], preset["serving"]
            engines = int(compute.get("data_parallel_size", 1))
            return cls(
                model_dir=model_dir,
                run_dir=run_dir(environ),
                backend=environ.get("INF2KIT_BACKEND") or compute["backend"],
                model_name=manifest.get("model_name") or preset["model"]["id"],
                dtype=compute["dtype"],
                shapes=StaticShapes.from_dict(preset["shapes"]),
                queue_size=int(_either(numbers, variables.QUEUE_SIZE, serving["queue_size"])),
                prefills_per_step=int(numbers.get(variables.PREFILLS_PER_STEP, 1)),
                deadline_s=_either(numbers, variables.DEADLINE_SECONDS, serving["deadline_s"]),
                gateway_address=_address(environ),
                model_server_address=environ.get(variables.MODEL_SERVER_ADDRESS, "http://127.0.0.1:8080"),
                model_server_workers=int(numbers.get(variables.MODEL_SERVER_WORKERS, 1)),
                notice=manifest.get("notice"),
                stall_s=numbers.get(variables.STALL_SECONDS),
                torch_threads=torch_threads(environ) or _share_of_cores(engines),
                # A deadline that is set for this container is that of every call.
                stream_deadline_s=None
                if variables.DEADLINE_SECONDS in numbers
                else _stream_deadline_s(serving),
                simulated={
                    name.removeprefix(variables.SIMULATED_PREFIX).lower(): value
                    for name, value in numbers.items()
                    if name.startswith(variables.SIMULATED_PREFIX)
                },
                tensor_parallel_size=int(compute.get("tensor_parallel_size", 1)),
                engines=engines,
                min_engines=min(int(numbers.get(variables.MIN_ENGINES, 1)), engines),
                engine=min(int(numbers.get(variables.ENGINE, 0)), engines - 1),
            )
        except KeyError as error:
            raise ModelDirectoryError(
                f"{model_dir / MANIFEST} lacks {error}; make the package again with this version of inf2kit"
            ) from None
        except (ValueError, TypeError) as error:
            raise ModelDirectoryError(
                f"{model_dir / MANIFEST} has a wrong value ({error}); make the package again"
            ) from None


def _stream_deadline_s(serving: Mapping[str, Any]) -> float | None:
    """How long a stream may take, which packages of earlier releases do not say."""
    seconds = serving.get("stream_deadline_s")
    return None if seconds is None else variables.NUMBERS[variables.DEADLINE_SECONDS].read(str(seconds))


def _share_of_cores(engines: int) -> int | None:
    """The processor's cores for each of several engines; None for all of them."""
    return None if engines == 1 else max(1, len(os.sched_getaffinity(0)) // engines)


def torch_threads(environ: Mapping[str, str] = os.environ) -> int | None:
    """The number of threads that the CPU backend is set to use, or None.

    Raises:
        ModelDirectoryError: the variable has a wrong value.
    """
    threads = _numbers(environ).get(variables.TORCH_THREADS)
    return None if threads is None else int(threads)


def _numbers(environ: Mapping[str, str]) -> dict[str, float]:
    """The values of all variables that are numbers, and are set."""
    names = [name for name in environ if name.startswith(variables.SIMULATED_PREFIX)]
    try:
        values = {name: variables.read_number(environ, name) for name in (*variables.NUMBERS, *names)}
    except ValueError as error:
        raise ModelDirectoryError(str(error)) from None
    return {name: value for name, value in values.items() if value is not None}


def _either(numbers: Mapping[str, float], name: str, value: object) -> float:
    """The variable's value, or else the manifest's, within the variable's range."""
    return numbers[name] if name in numbers else variables.NUMBERS[name].read(str(value))


def _address(environ: Mapping[str, str]) -> str | None:
    address = environ.get(variables.GATEWAY_ADDRESS)
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > _MAX_PORT:
        raise ModelDirectoryError(
            f"{variables.GATEWAY_ADDRESS} is {address!r}; it must be HOST:PORT, such as 0.0.0.0:8080, "
            "or not be set"
        )
    return address


def run_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for sockets, locks and state files; it is created if it is missing.

    Raises:
        ModelDirectoryError: it belongs to another user, whose process could answer in place of the engine.
    """
    path = Path(environ.get("INF2KIT_RUN_DIR") or _temporary(environ) / "inf2kit")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise ModelDirectoryError(
            f"{path} belongs to another user; remove it, or set INF2KIT_RUN_DIR to a folder of your own"
        )
    path.chmod(0o700)
    return path


def _temporary(environ: Mapping[str, str]) -> Path:
    """The folder for temporary files; ``tempfile.gettempdir`` writes a file, which fails on a full disk."""
    folders = (Path(environ.get(name) or "nowhere") for name in ("TMPDIR", "TEMP", "TMP"))
    return next((folder for folder in folders if folder.is_absolute() and folder.is_dir()), Path("/tmp"))  # noqa: S108


def _manifest(model_dir: Path) -> dict[str, Any]:
    path = model_dir / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelDirectoryError(
            f"{path} is missing, so {model_dir} is no inf2kit model package; make one from a preset"
        ) from None
    except OSError as error:
        raise ModelDirectoryError(
            f"{path} cannot be read ({error.strerror}); check its permissions and the disk"
        ) from None
    except ValueError as error:
        raise ModelDirectoryError(f"{path} cannot be read ({error}); make the package again") from None
    if not isinstance(manifest, dict):
        raise ModelDirectoryError(f"{path} is not a JSON object; make the package again")
    if manifest.get("format") != FORMAT:
        raise ModelDirectoryError(
            f"{path} is of format {manifest.get('format')}, this engine reads format {FORMAT}; "
            "make the package again with one version of inf2kit"
        )
    return manifest
