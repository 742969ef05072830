"""Faithful containers: started from a synthesized template, called on a port of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from aws_cdk.assertions import Template

import inf2kit
from inf2kit import paths
from inf2kit.package import Contents
from inf2kit.rehearsal.container import namespaces, processes
from inf2kit.rehearsal.container.spec import IMAGE_VARIABLES, ContainerSpec
from infra.app import build_app
from tests.helpers.cdk import BUCKET, find_only
from tests.helpers.servers import PATIENCE_S, free_port, ping

_ENTER = [
    "nsenter",
    "--user",
    "--preserve-credentials",
    "--mount",
    "--net",
    "--pid",
    "--ipc",
    "--uts",
    "--root",
]


#: The only address on which anything may listen.
GATEWAY = ("0.0.0.0", 8080)  # noqa: S104 - in a network namespace that has only a loopback


@dataclass(frozen=True)
class Deployable:
    """A package on this disk, and the environment that its stack sets for the Model."""

    model_dir: Path
    variables: dict[str, str]

    @classmethod
    def from_contents(cls, contents: Contents, preset: str, folder: Path) -> Deployable:
        """Write a package to a folder, and synthesize the stack of its preset."""
        contents.materialise(folder / "model")
        manifest = contents.manifest
        paths.save_manifest(manifest.digest, manifest.to_bytes())
        app = build_app({"package": f"{BUCKET}/{manifest.digest}/"}, outdir=str(folder / "cdk.out"))
        stack = app.node.find_child(f"inf2-{inf2kit.load_preset(preset).endpoint_name}")
        model = find_only(Template.from_stack(stack), "SageMaker::Model")  # type: ignore[arg-type]
        return cls(folder / "model", model["PrimaryContainer"]["Environment"])


@dataclass
class Container:
    """A running container."""

    port: int
    run_dir: Path
    log: Path
    keeper: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)

    @property
    def processes(self) -> list[psutil.Process]:
        """All processes except the keeper."""
        return [each for each in processes.list_processes(self.run_dir) if each.pid != self.keeper.pid]

    @property
    def init(self) -> psutil.Process:
        """The process with pid 1 in the container."""
        return next(each for each in self.processes if pid_in_container(each) == 1)

    def find_processes(self, word: str) -> list[psutil.Process]:
        """Return the processes with a word in their command line."""
        return [each for each in self.processes if any(word in part for part in _cmdline(each))]

    def wait_until_ready(self) -> float:
        """Wait until /ping says 200, and return the seconds since the start."""
        ends = time.monotonic() + PATIENCE_S
        while (status := ping(self.port)) != 200:
            ended = self.keeper.poll()
            assert ended is None, f"it ended with {ended}: {self.tail()}"
            assert time.monotonic() < ends, f"/ping says {status}: {self.tail()}"
            time.sleep(0.02)
        return time.monotonic() - self.began

    def run(self, script: str) -> Any:
        """Run a Python script in the container, and return the JSON that it prints."""
        command = [*_ENTER, "--target", str(self.init.pid), "/opt/conda/bin/python", "-c", script]
        environment = {
            **IMAGE_VARIABLES,
            "PATH": f"/usr/sbin:{IMAGE_VARIABLES['PATH']}",
        }
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert output.returncode == 0, output.stderr
        return json.loads(output.stdout)

    def generate(self, prompt: str, **parameters: Any) -> tuple[int, Any]:
        """Call without a stream; return status and JSON."""
        with self._call({"inputs": prompt, "parameters": parameters}) as response:
            return response.status, json.loads(response.read())

    def stream(self, prompt: str, **parameters: Any) -> tuple[int, list[Any]]:
        """Call with a stream; return status and events, or the JSON of the error."""
        with self._call({"inputs": prompt, "parameters": parameters, "stream": True}) as response:
            body = response.read()
            if response.status != 200:
                return response.status, [json.loads(body)]
            records = body.split(b"\n\n")
            assert records[-1] == b"", "a stream that was broken off"
            return 200, [json.loads(record.removeprefix(b"data:")) for record in records[:-1]]

    def metric(self, name: str) -> float:
        """Return a sample of the gateway's metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def _call(self, body: object) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("POST", "/invocations", json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:] if self.log.exists() else ""


def start(deployable: Deployable, python: namespaces.Python, folder: Path, **extra: str) -> Container:
    """Start a container of a package; ``extra`` are variables in addition to those of the stack."""
    run_dir = Path(tempfile.mkdtemp(prefix="inf2kit-"))
    port, log = free_port(), folder / "log"
    began = time.monotonic()
    variables = {**deployable.variables, **extra}
    spec = ContainerSpec(deployable.model_dir.parent, run_dir, variables, port, log)
    keeper = namespaces.start_container(spec, python=python)
    return Container(port, run_dir, log, keeper, began)


def pid_in_container(process: psutil.Process) -> int:
    """Return the pid of a process in its innermost namespace, or 0 when it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(status.partition("NSpid:")[2].partition("\n")[0].split()[-1])


def find_listeners(process: psutil.Process) -> dict[tuple[str, int], str]:
    """Return the TCP listeners of a process's network: command line by address and port."""
    inodes = {}
    for name in ("tcp", "tcp6"):
        lines = Path(f"/proc/{process.pid}/net/{name}").read_text(encoding="utf-8").splitlines()[1:]
        for fields in map(str.split, lines):
            if fields[3] == "0A":
                address, _, port = fields[1].rpartition(":")
                inodes[fields[9]] = (_address(address), int(port, 16))
    owners = {}
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(OSError):  # one that has ended
            for descriptor in Path(f"/proc/{each.pid}/fd").iterdir():
                inode = str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]")
                if inode in inodes:
                    owners[inodes[inode]] = " ".join(_cmdline(each))
    assert len(owners) == len(inodes), f"a process outside the container listens in its network: {inodes}"
    return owners


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    return socket.inet_ntoa(raw[::-1]) if len(raw) == 4 else text


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
        return command
    except psutil.Error:
        return []
