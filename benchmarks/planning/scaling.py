"""The planned scaling, deployed in the rehearsal cloud: a growing load must get its instances in time.

The simulated backend takes the times that the plan is made with. Minutes of the cloud last a second, but a
start takes what it takes, so that some seconds stand for some minutes of scale-out delay.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import inf2kit
from benchmarks.rehearsal import temporary_home
from inf2kit import paths
from inf2kit.catalog.calibration import Calibration
from inf2kit.names import stack_name
from inf2kit.package import collect, open_store, publish
from inf2kit.planning import plan as plans
from inf2kit.planning.demand import Demand, Lengths
from inf2kit.planning.plan import Plan, Situation
from inf2kit.planning.prediction import Objectives
from inf2kit.planning.scaling import Growth
from inf2kit.presets import Preset
from inf2kit.rehearsal import model
from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.local.speed import speed_variables
from tests.helpers import packages

_SAVED = Path(__file__).with_name("data") / "scaling.json"
_ROOT = Path(inf2kit.__file__).parents[1]
_CDK = Path(sys.executable).with_name("cdk")
_PRESET = "llama2-7b-throughput"
#: A device that takes four calls of 40 new tokens a second.
_SPEED = Calibration(
    preset=_PRESET,
    batch_size=4,
    sequence_length=2048,
    engines=1,
    on_device_sampling=False,
    prefill_tokens=(64,),
    prefill_s=(0.05,),
    step_s=0.02,
    row_step_s=0.0,
    stall_s=0.005,
    new_tokens=40.0,
    new_tokens_deviation=0.0,
    round_trip_s=0.0,
    measured=dt.date(2026, 11, 26),
    machine="the simulated backend",
    notice="simulated",
)
_NEW_TOKENS, _RATE, _LATENCY_S = 40, 1.5, 4.0
_GROWTH = Growth(peak=4.0, per_minute=0.1, delay_s=360.0)
#: Seconds, which are minutes of the cloud.
_GROWS_S, _STAYS_S = 30.0, 15.0
_HANDLER = """import os

os.environ.update({variables!r})
from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn
"""


@dataclass(frozen=True)
class Outcome:
    """What became of the growing load.

    Attributes:
        date: The day.
        context: The plan's values.
        calls: Number of calls.
        failed: Number of calls that failed.
        good: Share of the calls that were answered within the objective.
        latency_p95: Seconds of the answers.
        instances: Instances at the end.
        added_s: Seconds after the beginning at which the second one was in service; None if there was none.
    """

    date: str
    context: list[str]
    calls: int
    failed: int
    good: float
    latency_p95: float
    instances: int
    added_s: float | None


def saved() -> Outcome | None:
    """The last outcome, or None."""
    return Outcome(**json.loads(_SAVED.read_text(encoding="utf-8"))) if _SAVED.exists() else None


def measure(progress: Callable[[str], None]) -> Outcome:
    """Plan, deploy with the plan's values, put the load on, and save what became of it."""
    with tempfile.TemporaryDirectory(prefix="inf2kit-") as folder, temporary_home(Path(folder)):
        calibration = Path(folder, "speed.toml")
        _SPEED.write(calibration)
        plan = _plan(calibration)
        progress(f"planned: {' '.join(plan.scaling.context)}")
        settings = lifecycle.up(port=0, minute_s=1.0)
        os.environ.update(lifecycle.environment(settings))
        try:
            boto3.client("s3").create_bucket(Bucket="models")
            uri = _publish(plan.preset, calibration, Path(folder))
            _cdk("bootstrap", "--app", "", "aws://123456789012/us-east-1")
            progress("deploying")
            words = ["--require-approval", "never", "-c", f"package={uri}", *plan.scaling.context]
            _cdk("deploy", stack_name(_PRESET), *words, "--output", str(Path(folder, "out")))
            progress(f"{_GROWS_S + _STAYS_S:g} s of load")
            outcome = _grow(plan)
        finally:
            lifecycle.down()
    _SAVED.write_text(f"{json.dumps(dataclasses.asdict(outcome), indent=1)}\n", encoding="utf-8")
    return outcome


def _plan(calibration: Path) -> Plan:
    demand = Demand.of_lengths(Lengths.parse("16"), Lengths.parse(str(_NEW_TOKENS)), rate=_RATE)
    situation = Situation(demand, Objectives(latency_s=_LATENCY_S), _GROWTH)
    return plans.make(inf2kit.load_preset(_PRESET), situation, calibration=calibration)


def _publish(preset: Preset, calibration: Path, folder: Path) -> str:
    weights = packages.link_files(model.prepare(), folder / "weights", ".safetensors", "config.json")
    packages.write_small_model(weights, vocabulary=49152)
    handler = folder / "handler.py"
    handler.write_text(_HANDLER.format(variables=speed_variables(str(calibration), preset)))
    real = collect(preset, weights, rehearsal=True, handler=handler)
    contents = packages.with_simulated_backend(real)
    upload = publish.plan(contents, open_store("s3://models/llm"))
    publish.execute(upload)
    paths.save_manifest(upload.digest, contents.manifest.to_bytes())
    return upload.uri


def _grow(plan: Plan) -> Outcome:
    endpoint, generator, began = plan.preset.endpoint_name, random.Random(0), time.monotonic()
    options = Config(retries={"total_max_attempts": 1}, max_pool_connections=64)
    runtime, sagemaker = boto3.client("sagemaker-runtime", config=options), boto3.client("sagemaker")
    body = json.dumps(
        {"inputs": "Hello", "parameters": {"max_new_tokens": _NEW_TOKENS, "min_new_tokens": _NEW_TOKENS}}
    )
    latencies: list[float] = []
    failures: list[str] = []
    added: list[float] = []
    is_over = threading.Event()

    def call() -> None:
        sent = time.monotonic()
        try:
            answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=body)
            answer["Body"].read()
            latencies.append(time.monotonic() - sent)
        except ClientError as error:
            failures.append(str(error))

    def watch() -> None:
        while not is_over.wait(0.2):
            if _instances(sagemaker, endpoint) > 1 and not added:
                added.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(64) as pool:
        due = 0.0
        while due < _GROWS_S + _STAYS_S:
            pool.submit(call)
            due += generator.expovariate(_RATE * (1 + (_GROWTH.peak - 1) * min(1.0, due / _GROWS_S)))
            time.sleep(max(0.0, due - (time.monotonic() - began)))
    is_over.set()
    watcher.join()
    number = len(latencies) + len(failures)
    return Outcome(
        dt.datetime.now(dt.timezone.utc).date().isoformat(),
        plan.scaling.context,
        number,
        len(failures),
        sum(latency <= _LATENCY_S for latency in latencies) / number,
        sorted(latencies)[int(0.95 * len(latencies))],
        _instances(sagemaker, endpoint),
        added[0] if added else None,
    )


def _instances(sagemaker: Any, endpoint: str) -> int:
    (variant,) = sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    return int(variant["CurrentInstanceCount"])


def _cdk(*arguments: str) -> None:
    command = [str(_CDK), *arguments, "--ci", "--no-notices"]
    result = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
