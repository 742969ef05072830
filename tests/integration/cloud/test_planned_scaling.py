"""The values for automatic scaling that a plan prints, deployed: a growing load gets its instance in time."""

from __future__ import annotations

import datetime as dt
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_sagemaker
from botocore.exceptions import ClientError

import inf2kit
from inf2kit.catalog.calibration import Calibration
from inf2kit.names import endpoint_name, stack_name
from inf2kit.planning import closed_form
from inf2kit.planning import plan as plans
from inf2kit.planning.demand import Demand
from inf2kit.planning.lengths import Lengths
from inf2kit.planning.plan import Plan, Situation
from inf2kit.planning.prediction import Objectives
from inf2kit.planning.scaling import Growth
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.local.speed import speed_variables
from infra.app import build_app
from tests.helpers.servers import wait_until

PRESET = "llama2-7b-throughput"
NAME = endpoint_name(PRESET)
#: A simulated device, on which a call of 40 new tokens takes a second and a quarter.
SPEED = Calibration(
    preset=PRESET,
    batch_size=4,
    sequence_length=2048,
    engines=1,
    on_device_sampling=False,
    prefill_tokens=(64,),
    prefill_s=(0.05,),
    step_s=0.03,
    row_step_s=0.0,
    stall_s=0.005,
    new_tokens=40.0,
    new_tokens_deviation=0.0,
    round_trip_s=0.0,
    measured=dt.date(2026, 11, 26),
    machine="the simulated backend",
    notice="simulated",
)
NEW_TOKENS, LATENCY_S = 40, 5.0
#: Calls a second at first, and how many times as many at the end: more than one instance can answer.
RATE, PEAK = 0.8, 3.8
#: By how much the load grows until the second instance answers.
GROWTH = 1.6
#: Seconds of the highest load.
PEAK_S = 6.0


def make_plan(calibration: Path, delay_s: float) -> Plan:
    demand = Demand.of_lengths(Lengths.parse("16"), Lengths.parse(str(NEW_TOKENS)), rate=RATE)
    growth = Growth(PEAK, GROWTH / (delay_s / 60), delay_s)
    situation = Situation(demand, Objectives(latency_s=LATENCY_S), growth)
    return plans.make(inf2kit.load_preset(PRESET), situation, calibration=calibration)


def synthesize(folder: Path, context: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Synthesize the app, and give the simulated device its speed, which no option of the app does."""
    app = build_app(context, outdir=str(folder))
    for construct in app.node.find_all():
        if isinstance(construct, aws_sagemaker.CfnModel):
            for name, value in variables.items():
                construct.add_property_override(f"PrimaryContainer.Environment.{name}", value)
    app.synth()
    return str(folder)


class GrowingLoad:
    """Calls at random times, of which there are more and more.

    Args:
        runtime: A client of SageMaker's runtime.
        react_s: Seconds in which the load grows by ``GROWTH``.
    """

    def __init__(self, runtime: Any, react_s: float) -> None:
        self._runtime, self._react_s = runtime, react_s
        self.latencies: list[float] = []
        self.failures: list[str] = []

    def rate(self, at_s: float) -> float:
        """Calls a second at a time."""
        return RATE * min(PEAK, 1 + GROWTH * at_s / self._react_s)

    def run(self, is_added: Callable[[], bool]) -> float | None:
        """Send the calls; returns when the second instance was there, or None."""
        generator, began, due_s, added_s = random.Random(0), time.monotonic(), 0.0, None
        ends_s = (PEAK - 1) / GROWTH * self._react_s + PEAK_S
        with ThreadPoolExecutor(64) as pool:
            while due_s < ends_s:
                time.sleep(max(0.0, began + due_s - time.monotonic()))
                pool.submit(self._call)
                if added_s is None and is_added():
                    added_s = due_s
                due_s += generator.expovariate(self.rate(due_s))
        return added_s

    def _call(self) -> None:
        body = {"inputs": "Hello", "parameters": {"max_new_tokens": NEW_TOKENS, "ignore_eos": True}}
        sent = time.monotonic()
        try:
            response = self._runtime.invoke_endpoint(
                EndpointName=NAME, ContentType="application/json", Body=json.dumps(body)
            )
            response["Body"].read()
            self.latencies.append(time.monotonic() - sent)
        except ClientError as error:
            self.failures.append(str(error))


@pytest.mark.timeout(1200)
def test_the_planned_scaling_holds_the_objective_while_the_load_grows(
    cloud: CloudSettings,
    aws: Callable[..., Any],
    bootstrapped: Callable[..., Any],
    package: Callable[..., str],
    tmp_path: Path,
) -> None:
    """The plan's delay is measured, as a user would do it: minutes are short here, and starts are not."""
    sagemaker = aws("sagemaker")
    calibration = tmp_path / "speed.toml"
    SPEED.write(calibration)
    variables = speed_variables(str(calibration), inf2kit.load_preset(PRESET))
    package_context = {"package": package(PRESET)}

    def deploy(context: Mapping[str, str], folder: str) -> None:
        assembly = synthesize(tmp_path / folder, {**package_context, **context}, variables)
        bootstrapped("deploy", stack_name(PRESET), "--require-approval", "never", "--app", assembly)

    def describe() -> dict[str, Any]:
        description: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=NAME)
        return description

    def instances() -> int:
        (variant,) = describe()["ProductionVariants"]
        return int(variant["CurrentInstanceCount"])

    deploy({}, "alone")
    first = describe()
    start_s = (first["LastModifiedTime"] - first["CreationTime"]).total_seconds()
    # Twice a start on a machine with nothing else to do, and some looks at the load, one each second.
    react_s = 2 * start_s + 6
    plan = make_plan(calibration, react_s * 60 / cloud.minute_s)
    scaling = plan.scaling
    assert (scaling.min_instances, scaling.max_instances, scaling.is_exact) == (1, 2, True)
    deploy(dict(part.split("=") for part in scaling.context if part != "-c"), "scaled")
    assert describe()["EndpointConfigName"] == first["EndpointConfigName"], "the instance stays"
    assert instances() == 1

    load = GrowingLoad(aws("sagemaker-runtime", max_pool_connections=64), react_s)
    added_s = load.run(lambda: instances() == 2)
    alone_s = closed_form.alone_s(plan.engine, 16, NEW_TOKENS)
    assert statistics.median(load.latencies) >= alone_s, "the device is not that of the plan"
    assert load.failures == []
    assert added_s is not None, "the load grew, and no instance was added"
    largest_rate = closed_form.largest_rate(plan.engine, 16, NEW_TOKENS)
    assert load.rate(added_s) < largest_rate < load.rate(1e9), "it came when one could not answer any more"
    good = sum(latency <= LATENCY_S for latency in load.latencies) / len(load.latencies)
    assert good >= 0.95, sorted(load.latencies)
    wait_until(lambda: describe()["EndpointStatus"] == "InService", "the end of the update")
