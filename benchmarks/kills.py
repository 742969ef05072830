"""``make kills``: kill cdk deploy at random moments; the next one must succeed, and nothing may leak."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

import inf2kit
from benchmarks.ending import end_children
from benchmarks.rehearsal import temporary_home
from inf2kit import paths
from inf2kit.names import endpoint_name, stack_name
from inf2kit.package import collect, open_store, publish
from inf2kit.rehearsal import model
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.container import processes
from tests.helpers import packages
from tests.helpers.servers import wait_until

_PRESET = "tinyllama-1.1b-starter"
_STACK, _NAME = stack_name(_PRESET), endpoint_name(_PRESET)
_ROOT = Path(inf2kit.__file__).parents[1]
_CDK = Path(sys.executable).with_name("cdk")
#: About the duration of a deployment; a later kill comes after its end.
_LONGEST_S = 12.0


def main() -> None:
    """Kill a deployment, deploy again and check the endpoint, once for each seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    options = parser.parse_args()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder, temporary_home(Path(folder)):
        settings = lifecycle.up(port=0, minute_s=1.0)
        shell = {**os.environ, **lifecycle.environment(settings)}
        os.environ.update(lifecycle.environment(settings))
        try:
            apps = _synthesize(Path(folder), shell)
            for seed in range(options.first, options.first + options.seeds):
                faults += _kill_once(seed, apps, shell, settings.run_dir)
        finally:
            lifecycle.down()
        remaining = processes.list_processes(settings.run_dir, nested=True)
        faults += [f"a process is left: {process}" for process in remaining]
    print(f"{options.seeds} deployments killed, {len(faults)} faults {faults}")
    sys.exit(bool(faults))


def _synthesize(folder: Path, shell: dict[str, str]) -> list[Path]:
    """Synthesize the stack with two environments, so that every deployment changes something."""
    _run(shell, "bootstrap", "--app", "", "aws://123456789012/us-east-1")
    boto3.client("s3").create_bucket(Bucket="models")
    weights = packages.link_files(model.prepare(), folder / "weights", ".safetensors", "config.json")
    packages.write_small_model(weights, vocabulary=49152)
    contents = packages.with_simulated_backend(collect(inf2kit.load_preset(_PRESET), weights, rehearsal=True))
    plan = publish.plan(contents, open_store("s3://models/llm"))
    publish.execute(plan)
    paths.save_manifest(plan.digest, contents.manifest.to_bytes())
    apps = []
    for queue in (8, 16):
        out = folder / f"out-{queue}"
        _run(
            shell, "synth", "-q", _STACK, "-c", f"package={plan.uri}",
            "-c", f"environment=INF2KIT_QUEUE_SIZE={queue}", "--output", str(out),
        )  # fmt: skip
        apps.append(out)
    return apps


def _kill_once(seed: int, apps: list[Path], shell: dict[str, str], run_dir: Path) -> list[str]:
    # Every fourth deployment creates the stack; the others update it.
    if seed % 4 == 0:
        _run(shell, "destroy", _STACK, "--force", "--app", str(apps[0]))
        if engines := _count_engines(run_dir):
            return [f"seed {seed}: {engines} engines run after a destroy"]
    app = str(apps[seed % 2])
    after_s = random.Random(seed).uniform(0.0, _LONGEST_S)
    words = ["deploy", _STACK, "--require-approval", "never", "--app", app]
    process = subprocess.Popen(
        [str(_CDK), *words],
        cwd=_ROOT,
        env=shell,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(after_s)
    ended_before = process.poll() is not None
    if not ended_before:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (stack,) = _stack_statuses() or ["no stack"]
    again = _deploy(shell, words)
    waited = ""
    if again.returncode and "IN_PROGRESS" in again.stdout + again.stderr:
        waited = "refused until the stack had settled, "
        wait_until(
            lambda: not any(status.endswith("_IN_PROGRESS") for status in _stack_statuses()),
            "it settles",
        )
        again = _deploy(shell, words)
    endpoint = boto3.client("sagemaker").describe_endpoint(EndpointName=_NAME)
    engines = _count_engines(run_dir)
    killed = "had ended already" if ended_before else f"killed after {after_s:4.1f} s, stack {stack}"
    status = endpoint["EndpointStatus"]
    print(
        f"seed {seed:2d}: {killed}; {waited}then {again.returncode}, {status}, {engines} engine", flush=True
    )
    if again.returncode or status != "InService" or engines != 1:
        return [f"seed {seed}: {again.stdout[-500:]} {again.stderr[-500:]}"]
    return []


def _deploy(shell: dict[str, str], words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [str(_CDK), *words]
    return subprocess.run(command, cwd=_ROOT, env=shell, capture_output=True, text=True, check=False)


def _stack_statuses() -> list[str]:
    stacks = boto3.client("cloudformation").describe_stacks()["Stacks"]
    return [stack["StackStatus"] for stack in stacks if stack["StackName"] == _STACK]


def _count_engines(run_dir: Path) -> int:
    return sum(
        any("inf2kit.serving.engine.server" in part for part in process.cmdline())
        for process in processes.list_processes(run_dir, nested=True)
    )


def _run(shell: dict[str, str], *words: str) -> None:
    subprocess.run([str(_CDK), *words], cwd=_ROOT, env=shell, check=True, capture_output=True)


if __name__ == "__main__":
    with end_children():
        main()
