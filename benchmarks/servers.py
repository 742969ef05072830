"""The servers that are compared: this kit, the toolkit's stock way, and the peers a user would pick.

All serve the same float32 weights on the same cores. They are up at the same time, and those that are not
measured are stopped with SIGSTOP, since some of them poll while they are idle.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

from inf2kit import presets
from inf2kit.rehearsal.container import launchers
from inf2kit.rehearsal.container import processes as container
from inf2kit.rehearsal.container.spec import ContainerSpec
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from inf2kit.rehearsal.local.state import EndpointState

#: A prompt and a number of new tokens to the number that came.
Generate = Callable[[str, int], int]
PRESET = "smollm2-135m-local"
PEERS = Path(os.environ.get("INF2KIT_BENCH_PEERS", "build/peers"))
_STOCK = Path(__file__).parent / "stock_handler.py"
_START_S = 300.0
#: Connections that timed out while a server was stopped are closed now, and not under the first call.
_SETTLE_S = 1.0


@dataclass
class Server:
    """One server that is up.

    Attributes:
        name: In the table.
        generate: One call, its length forced.
        processes: All of its processes.
    """

    name: str
    generate: Generate
    processes: Callable[[], list[psutil.Process]]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let it run, and stop it again behind the measurement."""
        self.signal(signal.SIGCONT)
        time.sleep(_SETTLE_S)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process."""
        for process in self.processes():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def memory_mb(self) -> dict[str, float]:
        """Proportional set size of each process, so that what they share is counted once."""
        found: dict[str, float] = {}
        for process in self.processes():
            try:
                words = process.cmdline()
                megabytes = process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
            kind = next((kind for mark, kind in _KINDS if any(mark in word for word in words)), "other")
            found[kind] = found.get(kind, 0.0) + megabytes
        return found


_KINDS = (
    ("inf2kit.serving.engine.server", "engine"),
    ("inf2kit.serving.engine.gateway", "gateway"),
    ("inf2kit.serving.engine.supervisor", "supervisor"),
    ("java", "model server"),
    ("mms_worker", "workers"),
    ("model_service_worker", "workers"),
    ("inf2kit.rehearsal.local.host", "front (on one machine only)"),
)


def boto3_client(state: EndpointState, url: str = "") -> Any:
    """As a user has it, but for retries, which would hide refusals.

    Args:
        state: Of the endpoint that is called.
        url: Of another front before it.
    """
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url or state.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=80),
    )


def invoke(client: Any, name: str, prompt: str, new_tokens: int) -> int:
    """One whole call through boto3."""
    parameters = {"max_new_tokens": new_tokens, "ignore_eos": True, "details": True}
    response = client.invoke_endpoint(
        EndpointName=name,
        ContentType="application/json",
        Body=json.dumps({"inputs": prompt, "parameters": parameters}),
    )
    return int(json.loads(response["Body"].read())[0]["details"]["generated_tokens"])


def preset_of(dtype: str, folder: Path) -> str:
    """The local preset in another precision, as a file of one's own."""
    text = Path(presets.__file__).with_name(f"{PRESET}.toml").read_text(encoding="utf-8")
    path = folder / f"bench-{dtype}.toml"
    path.write_text(text.replace('"float32"', f'"{dtype}"'), encoding="utf-8")
    return str(path)


@contextmanager
def kit(preset: str, name: str = "inf2kit-bench", **variables: str) -> Iterator[tuple[Server, EndpointState]]:
    """A local endpoint, called through boto3: front, gateway, model server, ``predict_fn``, engine."""
    state = start_endpoint(preset, name=name, variables=variables)
    client = boto3_client(state)

    def processes() -> list[psutil.Process]:
        return container.list_processes(Path(state.run_dir))

    server = Server("inf2kit, whole stack", lambda prompt, new: invoke(client, name, prompt, new), processes)
    try:
        yield server, state
    finally:
        server.signal(signal.SIGCONT)
        LocalEndpoint(name).stop()


@contextmanager
def stock(weights: Path, dtype: str) -> Iterator[Server]:
    """The toolkit as most people use it: one worker whose ``predict_fn`` calls ``generate``."""
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder:
        base, run_dir = Path(folder) / "ml", Path(folder) / "run"
        (base / "model" / "code").mkdir(parents=True)
        run_dir.mkdir()
        for path in weights.iterdir():
            (base / "model" / path.name).symlink_to(path)
        shutil.copy2(_STOCK, base / "model" / "code" / "inference.py")
        (port,) = free_ports(1)
        variables = {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "MMS_INFERENCE_ADDRESS": "http://0.0.0.0:8080",
            "MMS_MANAGEMENT_ADDRESS": "unix:/home/model-server/tmp/management.sock",
            "PYTHONPYCACHEPREFIX": "",
            "HF_HUB_OFFLINE": "1",
            "BENCH_DTYPE": dtype,
        }
        launchers.start_container(ContainerSpec(base, run_dir, variables, port, Path(folder) / "log"))
        url = f"http://127.0.0.1:{port}/invocations"

        def generate(prompt: str, new_tokens: int) -> int:
            return int(post(url, {"inputs": prompt, "new_tokens": new_tokens})["generated_tokens"])

        server = Server(
            "toolkit's stock way, one worker", generate, lambda: container.list_processes(run_dir)
        )
        try:
            until(lambda: generate("ready", 2))
            yield server
        finally:
            server.signal(signal.SIGCONT)
            container.stop(run_dir)


@contextmanager
def transformers_serve(weights: Path, dtype: str) -> Iterator[Server | None]:
    """``transformers serve --continuous-batching``; None where it is not installed (make bench-peers)."""
    program = PEERS / "transformers" / "bin" / "transformers"
    if not program.exists():
        yield None
        return
    (port,) = free_ports(1)
    # The page size and count are the fastest found on two cores; its own defaults take 60 % of the memory.
    pages = ["--cb-block-size", "32", "--cb-num-blocks", "128", "--cb-max-batch-tokens", "256"]
    options = ["--continuous-batching", "--device", "cpu", "--attn-implementation", "sdpa"]
    command = [program.absolute(), "serve", weights, *options, "--dtype", dtype, *pages]
    url = f"http://127.0.0.1:{port}/v1/completions"

    def generate(prompt: str, new_tokens: int) -> int:
        # -1 as the end of a text forces the length; the value is JSON within JSON.
        config = {"max_new_tokens": new_tokens, "do_sample": False, "eos_token_id": -1, "pad_token_id": 2}
        answer = post(url, {"prompt": prompt, "generation_config": json.dumps(config)})
        return int(answer["usage"]["completion_tokens"])

    with _process([*command, "--port", port], "transformers serve", generate) as server:
        yield server


@contextmanager
def llama_cpp(weights: Path, dtype: str) -> Iterator[Server | None]:
    """llama.cpp's server with eight slots; None where it is not built (make bench-peers), and in bfloat16,
    where it is slower than in float32."""
    program, model = PEERS / "llama-server", PEERS / "model-f32.gguf"
    if dtype != "float32" or not (program.exists() and model.exists()):
        yield None
        return
    (port,) = free_ports(1)
    threads = str(len(os.sched_getaffinity(0)))
    command = [program.absolute(), "-m", model, "-t", threads, "-tb", threads, "-np", "8", "-c", "4096"]
    url = f"http://127.0.0.1:{port}/completion"

    def generate(prompt: str, new_tokens: int) -> int:
        body = {"prompt": prompt, "n_predict": new_tokens, "ignore_eos": True, "temperature": 0}
        return int(post(url, {**body, "cache_prompt": False})["tokens_predicted"])

    with _process([*command, "--no-kv-unified", "--port", port], "llama.cpp's server", generate) as server:
        yield server


@contextmanager
def _process(command: list[Any], name: str, generate: Generate) -> Iterator[Server]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        top = psutil.Process(process.pid)
        try:
            until(lambda: generate("ready", 2))
            yield Server(name, generate, lambda: [top, *top.children(recursive=True)])
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def post(url: str, body: object) -> Any:
    """The JSON value that a JSON body is answered with."""
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.loads(response.read())


def until(ready: Callable[[], object]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            ready()
            return
        except (OSError, urllib.error.HTTPError, ValueError, KeyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    # The model server takes ports below 32767 only.
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            break
    return found
