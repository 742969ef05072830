"""The servers that are compared: inf2kit, the toolkit's stock way, transformers serve and llama.cpp.

All serve the same weights on the same cores. They run at the same time, and those that are not measured are
stopped with SIGSTOP, since some of them poll while they are idle.
"""

from __future__ import annotations

import contextlib
import functools
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

#: How tokens are drawn where they are sampled; greedy search otherwise. No server limits the candidates in
#: other ways, as some do by default.
TEMPERATURE, TOP_P = 0.7, 0.9
#: Takes a prompt, a number of new tokens and whether they are sampled; returns how many were generated.
Generate = Callable[[str, int, bool], int]
PRESET = "smollm2-135m-local"
PEERS = Path(os.environ.get("INF2KIT_BENCH_PEERS", "build/peers"))
_STOCK = Path(__file__).parent / "stock_handler.py"
_START_S = 300.0
#: Time for a continued server to close connections that timed out while it was stopped.
_SETTLE_S = 1.0


@dataclass
class Server:
    """A running server.

    Attributes:
        name: Its name in the table.
        generate: Makes one call that generates exactly so many tokens.
        processes: Lists all of its processes.
    """

    name: str
    generate: Generate
    processes: Callable[[], list[psutil.Process]]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let the server run during a measurement, and stop it afterwards."""
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
        """Return proportional set sizes by kind of process; memory that is shared counts once."""
        megabytes_by_kind: dict[str, float] = {}
        for process in self.processes():
            try:
                kind = kind_of(process)
                megabytes = process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
            megabytes_by_kind[kind] = megabytes_by_kind.get(kind, 0.0) + megabytes
        return megabytes_by_kind


#: A text in a process's command line, and the kind of the process.
_KINDS = (
    ("inf2kit.serving.engine.server", "engine"),
    ("inf2kit.serving.gateway.gateway", "gateway"),
    ("inf2kit.serving.supervision.supervisor", "supervisor"),
    ("java", "model server"),
    ("mms.model_server", "model server"),
    ("mms_worker", "workers"),
    ("model_service_worker", "workers"),
    ("inf2kit.rehearsal.local.host", "runtime (on one machine only)"),
)


def kind_of(process: psutil.Process) -> str:
    """Return the kind of an endpoint's process.

    Raises:
        psutil.Error: it has ended.
    """
    words = process.cmdline()
    return next((kind for text, kind in _KINDS if any(text in word for word in words)), "other")


def boto3_client(state: EndpointState, url: str = "") -> Any:
    """Create a client as a user has it, but without retries, which would hide refusals.

    Args:
        state: The endpoint to call.
        url: Another runtime before the endpoint; its own by default.
    """
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url or state.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=80),
    )


def invoke(client: Any, name: str, prompt: str, new_tokens: int, sampled: bool = False) -> int:
    """Make one call through boto3; return the number of tokens generated."""
    parameters: dict[str, Any] = {"max_new_tokens": new_tokens, "ignore_eos": True, "details": True}
    if sampled:
        parameters |= {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P}
    response = client.invoke_endpoint(
        EndpointName=name,
        ContentType="application/json",
        Body=json.dumps({"inputs": prompt, "parameters": parameters}),
    )
    return int(json.loads(response["Body"].read())[0]["details"]["generated_tokens"])


def write_preset(dtype: str, folder: Path) -> str:
    """Write the local preset in another precision to a file; return its path."""
    text = Path(presets.__file__).with_name(f"{PRESET}.toml").read_text(encoding="utf-8")
    path = folder / f"bench-{dtype}.toml"
    path.write_text(text.replace('"float32"', f'"{dtype}"'), encoding="utf-8")
    return str(path)


@contextmanager
def local_endpoint(
    preset: str, name: str = "inf2kit-bench", **variables: str
) -> Iterator[tuple[Server, EndpointState]]:
    """Run a local endpoint, called through boto3: runtime, gateway, model server, ``predict_fn``, engine."""
    state = start_endpoint(preset, name=name, variables=variables)
    client = boto3_client(state)

    def processes() -> list[psutil.Process]:
        return container.list_processes(Path(state.run_dir))

    server = Server("inf2kit, whole stack", functools.partial(invoke, client, name), processes)
    try:
        yield server, state
    finally:
        server.signal(signal.SIGCONT)
        LocalEndpoint(name).stop()


@contextmanager
def stock_toolkit(weights: Path, dtype: str) -> Iterator[Server]:
    """Run the toolkit as most people use it: one worker whose ``predict_fn`` calls ``generate``."""
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder:
        base, run_dir = Path(folder) / "ml", Path(folder) / "run"
        (base / "model" / "code").mkdir(parents=True)
        run_dir.mkdir()
        for path in weights.iterdir():
            (base / "model" / path.name).symlink_to(path)
        shutil.copy2(_STOCK, base / "model" / "code" / "inference.py")
        (port,) = find_free_ports(1)
        variables = {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "MMS_INFERENCE_ADDRESS": "http://0.0.0.0:8080",
            "MMS_MANAGEMENT_ADDRESS": "unix:/home/model-server/tmp/management.sock",
            "PYTHONPYCACHEPREFIX": "",
            "HF_HUB_OFFLINE": "1",
            "BENCH_DTYPE": dtype,
        }
        spec = ContainerSpec(base, run_dir, variables, port, Path(folder) / "log")
        url = f"http://127.0.0.1:{port}/invocations"

        def generate(prompt: str, new_tokens: int, sampled: bool = False) -> int:
            options = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0}
            body = {"inputs": prompt, "new_tokens": new_tokens, "options": options if sampled else {}}
            return int(post(url, body)["generated_tokens"])

        server = Server(
            "toolkit's stock way, one worker", generate, lambda: container.list_processes(run_dir)
        )
        try:
            launchers.start_container(spec)
            wait_until_answered(lambda: generate("ready", 2))
            yield server
        finally:
            server.signal(signal.SIGCONT)
            container.stop(run_dir)


@contextmanager
def transformers_serve(weights: Path, dtype: str) -> Iterator[Server | None]:
    """Run ``transformers serve --continuous-batching``; None where it is not installed (make bench-peers)."""
    program = PEERS / "transformers" / "bin" / "transformers"
    if not program.exists():
        yield None
        return
    (port,) = find_free_ports(1)
    # This page size and count were the fastest on two cores; the defaults take 60 % of the memory.
    pages = ["--cb-block-size", "32", "--cb-num-blocks", "128", "--cb-max-batch-tokens", "256"]
    options = ["--continuous-batching", "--device", "cpu", "--attn-implementation", "sdpa"]
    command = [program.absolute(), "serve", weights, *options, "--dtype", dtype, *pages]
    url = f"http://127.0.0.1:{port}/v1/completions"

    def generate(prompt: str, new_tokens: int, sampled: bool = False) -> int:
        assert not sampled, "it samples as its first request does"
        # An end-of-sequence id of -1 never occurs, which fixes the length. The value is JSON within JSON.
        config = {"max_new_tokens": new_tokens, "do_sample": False, "eos_token_id": -1, "pad_token_id": 2}
        answer = post(url, {"prompt": prompt, "generation_config": json.dumps(config)})
        return int(answer["usage"]["completion_tokens"])

    with _run_process([*command, "--port", port], "transformers serve", generate) as server:
        yield server


@contextmanager
def llama_cpp(weights: Path, dtype: str) -> Iterator[Server | None]:
    """Run llama.cpp's server with eight slots.

    None where it is not built (make bench-peers), and in bfloat16, where it is slower than in float32.
    """
    program, model = PEERS / "llama-server", PEERS / "model-f32.gguf"
    if dtype != "float32" or not (program.exists() and model.exists()):
        yield None
        return
    (port,) = find_free_ports(1)
    threads = str(len(os.sched_getaffinity(0)))
    command = [program.absolute(), "-m", model, "-t", threads, "-tb", threads, "-np", "8", "-c", "4096"]
    url = f"http://127.0.0.1:{port}/completion"

    def generate(prompt: str, new_tokens: int, sampled: bool = False) -> int:
        body = {"prompt": prompt, "n_predict": new_tokens, "ignore_eos": True, "cache_prompt": False}
        options = {"temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0, "min_p": 0}
        return int(post(url, {**body, **(options if sampled else {"temperature": 0})})["tokens_predicted"])

    with _run_process(
        [*command, "--no-kv-unified", "--port", port], "llama.cpp's server", generate
    ) as server:
        yield server


@contextmanager
def _run_process(command: list[Any], name: str, generate: Generate) -> Iterator[Server]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        top = psutil.Process(process.pid)
        try:
            wait_until_answered(lambda: generate("ready", 2, False))
            yield Server(name, generate, lambda: [top, *top.children(recursive=True)])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def post(url: str, body: object) -> Any:
    """Send a JSON body; return the JSON value of the answer."""
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.loads(response.read())


def wait_until_answered(call: Callable[[], object]) -> None:
    """Repeat a call until it succeeds.

    Raises:
        The error of the last call, after 300 s.
    """
    deadline = time.monotonic() + _START_S
    while True:
        try:
            call()
            return
        except (OSError, urllib.error.HTTPError, ValueError, KeyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def find_free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    # The model server accepts ports below 32767 only.
    ports: list[int] = []
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            break
    return ports
