"""``make kills``: cdk deploy killed at random moments; the next one must succeed, and nothing may leak.

python -m benchmarks.kills [--seeds 20] [--first 0]
"""

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
from benchmarks.rehearsal import own_home
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
#: A deployment takes about so long; a kill later than that finds it done.
_LONGEST_S = 12.0


def main() -> None:
    """Kill, deploy again, look."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--first", type=int, default=0)
    given = options.parse_args()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder, own_home(Path(folder)):
        settings = lifecycle.up(port=0, minute_s=1.0)
        shell = {**os.environ, **lifecycle.environment(settings)}
        os.environ.update(lifecycle.environment(settings))
        try:
            apps = _synthesized(Path(folder), shell)
            for seed in range(given.first, given.first + given.seeds):
                faults += _one(seed, apps, shell, settings.run_dir)
        finally:
            lifecycle.down()
        left = processes.list_processes(settings.run_dir, nested=True)
        faults += [f"a process is left: {process}" for process in left]
    print(f"{given.seeds} deployments killed, {len(faults)} faults {faults}")
    sys.exit(bool(faults))


def _synthesized(folder: Path, shell: dict[str, str]) -> list[Path]:
    """The same stack with two environments, so that every deployment has something to do."""
    _run(shell, "bootstrap", "--app", "", "aws://123456789012/us-east-1")
    boto3.client("s3").create_bucket(Bucket="models")
    weights = packages.link_files(model.prepare(), folder / "weights", ".safetensors")
    packages.write_safetensors(weights / "model.safetensors")
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


def _one(seed: int, apps: list[Path], shell: dict[str, str], run_dir: Path) -> list[str]:
    random_ = random.Random(seed)
    # Every fourth one creates; the others update.
    if seed % 4 == 0:
        _run(shell, "destroy", _STACK, "--force", "--app", str(apps[0]))
        if left := _engines(run_dir):
            return [f"seed {seed}: {left} engines run after a destroy"]
    app = str(apps[seed % 2])
    after_s = random_.uniform(0.0, _LONGEST_S)
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
    done_before = process.poll() is not None
    if not done_before:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (stack,) = _stacks() or ["no stack"]
    again = _deploy(shell, words)
    told = ""
    if again.returncode and "try again when it has settled" in again.stdout + again.stderr:
        told = "told to wait, "
        wait_until(lambda: not any(each.endswith("_IN_PROGRESS") for each in _stacks()), 120, "it settles")
        again = _deploy(shell, words)
    described = boto3.client("sagemaker").describe_endpoint(EndpointName=_NAME)
    engines = _engines(run_dir)
    killed = "was done already" if done_before else f"killed after {after_s:4.1f} s, stack {stack}"
    status = described["EndpointStatus"]
    print(f"seed {seed:2d}: {killed}; {told}then {again.returncode}, {status}, {engines} engine", flush=True)
    if again.returncode or status != "InService" or engines != 1:
        return [f"seed {seed}: {again.stdout[-500:]} {again.stderr[-500:]}"]
    return []


def _deploy(shell: dict[str, str], words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [str(_CDK), *words]
    return subprocess.run(command, cwd=_ROOT, env=shell, capture_output=True, text=True, check=False)


def _stacks() -> list[str]:
    found = boto3.client("cloudformation").describe_stacks()["Stacks"]
    return [each["StackStatus"] for each in found if each["StackName"] == _STACK]


def _engines(run_dir: Path) -> int:
    return sum(
        any("inf2kit.serving.engine.server" in part for part in process.cmdline())
        for process in processes.list_processes(run_dir, nested=True)
    )


def _run(shell: dict[str, str], *words: str) -> None:
    subprocess.run([str(_CDK), *words], cwd=_ROOT, env=shell, check=True, capture_output=True)


if __name__ == "__main__":
    main()
