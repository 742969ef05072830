"""The whole path, as a user goes it: bootstrap, deploy, call, update, break, scale, destroy.

One test, since each step needs what the one before has left; independent endpoints go side by side.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

import inf2kit
from inf2kit.package import collect
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes
from infra.app import build_app
from tests.helpers import packages
from tests.helpers.background_calls import call_in_background
from tests.helpers.cloud import generate, publish_package
from tests.helpers.sagemaker import ROLE
from tests.helpers.servers import wait_until

REAL, SLOW, QUEUED = "tinyllama-1.1b-starter", "llama2-7b-throughput", "llama2-7b-latency"
#: A load that takes 20 s, written into the package: what a template cannot ask for.
STRETCHED = (
    "inf2kit/serving/engine/backend/simulated.py",
    "load_seconds: float = 0.0",
    "load_seconds: float = 20.0",
)
BROKEN = ("inference.py", "import json\n", "import json\nimport a_module_that_is_not_there\n")
#: Good enough to get ready, and a server error for every caller of this test.
FAULTY = (
    "inference.py",
    "    if isinstance(data, RequestError):\n        return data\n",
    "    if isinstance(data, dict) and data.get('inputs') == 'Hello':\n"
    "        return RequestError(500, 'faulty', 'faulty on purpose')\n",
)


UNASKED = ("--require-approval", "never")


class Steps:
    """Times the steps, and prints them when the test has passed."""

    def __init__(self, figure: Callable[[str], None]) -> None:
        self._figure = figure

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._figure(f"rehearsal: {time.monotonic() - began:5.1f} s {what}")


@pytest.fixture
def steps(figure: Callable[[str], None]) -> Steps:
    return Steps(figure)


def name_of(preset: str) -> str:
    return inf2kit.load_preset(preset).endpoint_name


def stack_of(preset: str) -> str:
    return f"inf2-{name_of(preset)}"


@pytest.mark.timeout(600)
def test_the_whole_path(
    cloud: CloudSettings,
    aws: Callable[..., Any],
    cdk: Callable[..., Any],
    package: Callable[..., str],
    small_weights: Path,
    tmp_path: Path,
    steps: Steps,
) -> None:
    runtime = aws("sagemaker-runtime", read_timeout=70)
    began = time.monotonic()
    with steps.step("cdk bootstrap"):
        cdk("bootstrap", "--app", "", "aws://123456789012/us-east-1")
    with steps.step("packages: one with a real model, two with the simulated backend"):
        contents = collect(inf2kit.load_preset(REAL), small_weights, rehearsal=True)
        uris = {
            REAL: publish_package(contents),
            SLOW: package(SLOW, STRETCHED),
            QUEUED: package(QUEUED),
        }
    given = [
        *UNASKED,
        *("--concurrency", "3", "-c", f"package={','.join(uris.values())}"),
        *("-c", f"{QUEUED}={json.dumps({'asynchronous': True})}"),
    ]
    with steps.step("cdk deploy of three presets, one of them asynchronous"):
        out = str(tmp_path / "out")
        cdk("deploy", *map(stack_of, uris), *given, "--output", out)
    with steps.step("cdk diff, by the template and by a change set"):
        for method in ("template", "change-set"):
            said = cdk("diff", stack_of(REAL), "--app", out, f"--method={method}")
            assert "There were no differences" in said.stdout + said.stderr
    with steps.step("calls and streams by boto3"):
        calls_and_streams(runtime)
    broken = publish_package(packages.with_changed_code(contents, tmp_path, *BROKEN))
    faulty = package(SLOW, FAULTY)
    apps = synthesized(
        tmp_path,
        update={"package": uris[SLOW], "environment": "INF2KIT_QUEUE_SIZE=16"},
        broken={"package": broken},
        faulty={"package": faulty},
    )
    with ThreadPoolExecutor() as side_by_side:
        jobs = [
            side_by_side.submit(an_update_nobody_notices, steps, runtime, cdk, apps["update"]),
            side_by_side.submit(a_second_instance_then_no_gateway, steps, cloud, aws, runtime, package(SLOW)),
            side_by_side.submit(answers_by_s3, steps, aws),
        ]
        for job in jobs:
            job.result()
    with ThreadPoolExecutor() as side_by_side:
        jobs = [
            side_by_side.submit(a_broken_package_is_rolled_back, steps, aws, runtime, cdk, apps["broken"]),
            side_by_side.submit(errors_roll_an_update_back, steps, aws, runtime, cdk, apps["faulty"]),
        ]
        for job in jobs:
            job.result()
    with steps.step("cdk destroy"):
        cdk("destroy", "--force", *map(stack_of, uris), "--app", out)
        nothing_is_left(cloud, aws)
    with steps.step(f"in all, {time.monotonic() - began:.0f} s"):
        pass


def calls_and_streams(runtime: Any) -> None:
    (answer,) = generate(runtime, name_of(REAL), "The capital of France is", details=True)
    assert answer["details"]["generated_tokens"] == 4
    assert not any("simulated" in warning for warning in answer["warnings"]), "a real model answers"
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 3}, "stream": True})
    for preset in (REAL, SLOW):
        response = runtime.invoke_endpoint_with_response_stream(
            EndpointName=name_of(preset), ContentType="application/json", Body=body
        )
        events = b"".join(part["PayloadPart"]["Bytes"] for part in response["Body"]).split(b"\n\n")
        assert len([event for event in events if event.startswith(b"data:")]) == 3
        assert "rehearsal" in response["CustomAttributes"], "what is simulated says so"


def synthesized(folder: Path, **contexts: dict[str, str]) -> dict[str, str]:
    """Assemblies for later deployments: a synth is mostly CDK's own start, which this pays once."""
    for name, context in contexts.items():
        build_app(context, outdir=str(folder / name)).synth()
    return {name: str(folder / name) for name in contexts}


def an_update_nobody_notices(steps: Steps, runtime: Any, cdk: Callable[..., Any], app: str) -> None:
    with (
        steps.step("an environment value updated under callers, with a load of 20 s"),
        call_in_background(runtime, name_of(SLOW), pause_s=0.2) as seen,
    ):
        cdk("deploy", stack_of(SLOW), *UNASKED, "--app", app)
    assert seen.errors == []
    assert seen.served > 20


def a_second_instance_then_no_gateway(
    steps: Steps, cloud: CloudSettings, aws: Callable[..., Any], runtime: Any, quick: str
) -> None:
    """An endpoint made by boto3: two instances by hand, then an update whose template forgets the gateway."""
    sagemaker, name = aws("sagemaker"), "by-hand"
    described = sagemaker.describe_endpoint(EndpointName=name_of(SLOW))
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    whole = model["PrimaryContainer"]
    source = {**whole["ModelDataSource"]["S3DataSource"], "S3Uri": quick}
    gatewayless = {**whole["Environment"], "MMS_INFERENCE_ADDRESS": "http://0.0.0.0:8080"}
    del gatewayless["INF2KIT_GATEWAY_ADDRESS"]
    containers = {
        # A token takes its time, and no processor's.
        "quick": {
            **whole,
            "ModelDataSource": {"S3DataSource": source},
            "Environment": {
                **whole["Environment"],
                "INF2KIT_PACKAGE_DIGEST": quick.split("/")[-2],
                "INF2KIT_SIMULATED_STEP_SECONDS": "0.05",
            },
        },
        "gatewayless": {**whole, "Environment": gatewayless},
    }
    for made, container_ in containers.items():
        sagemaker.create_model(ModelName=made, ExecutionRoleArn=ROLE, PrimaryContainer=container_)
        variants = [{**config["ProductionVariants"][0], "ModelName": made}]
        sagemaker.create_endpoint_config(EndpointConfigName=made, ProductionVariants=variants)
    with steps.step("an endpoint by boto3"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="quick")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    with steps.step("a second instance of it because of its calls; both serve"):
        a_second_instance(cloud, aws, runtime, name)
    with (
        steps.step("an update that forgets the gateway: callers notice"),
        call_in_background(runtime, name, pause_s=0.2) as seen,
    ):
        sagemaker.update_endpoint(EndpointName=name, EndpointConfigName="gatewayless")
        wait_until(lambda: seen.errors, 120, "calls that fail")
    sagemaker.delete_endpoint(EndpointName=name)
    for made in containers:
        sagemaker.delete_endpoint_config(EndpointConfigName=made)
        sagemaker.delete_model(ModelName=made)
    assert any("503" in error for error in seen.errors), seen.errors[:3]


def a_second_instance(cloud: CloudSettings, aws: Callable[..., Any], runtime: Any, name: str) -> None:
    sagemaker, scaling = aws("sagemaker"), aws("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/main",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    metric = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    scaling.put_scaling_policy(
        **target,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1.0,
            "PredefinedMetricSpecification": metric,
            "DisableScaleIn": True,
        },
    )

    def instances() -> int:
        (variant,) = sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
        return int(variant["CurrentInstanceCount"])

    with call_in_background(runtime, name, threads=3, pause_s=0.0, max_new_tokens=20) as seen:
        wait_until(lambda: instances() == 2, 120, "a second instance")
        before, served = processor_time(cloud, name), seen.served
        wait_until(lambda: seen.served > served + 10, 60, "calls")
    after = processor_time(cloud, name)
    assert seen.errors == []
    assert len(before) == 2
    assert all(after[pid] > before[pid] for pid in before), (before, after)
    scaling.delete_scaling_policy(PolicyName="track", **target)
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=1)
    wait_until(lambda: instances() == 1, 60, "one instance again, the most there may be")
    scaling.deregister_scalable_target(**target)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})


def processor_time(cloud: CloudSettings, endpoint: str) -> dict[int, float]:
    """Seconds of the processor that the model server of each instance of an endpoint has used."""
    used: dict[int, float] = {}
    for process in processes.list_processes(cloud.run_dir, nested=True):
        try:
            base = process.environ().get("SAGEMAKER_BASE_DIR", "")
            if f"/{endpoint}/" in base and "java" in process.name():
                used[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return used


def answers_by_s3(steps: Steps, aws: Callable[..., Any]) -> None:
    runtime, s3 = aws("sagemaker-runtime"), aws("s3")
    (place,) = json.loads(aws("ssm").get_parameter(Name=f"/inf2kit/presets/{QUEUED}")["Parameter"]["Value"])[
        "async_input"
    ].split()
    bucket, _, prefix = place.removeprefix("s3://").partition("/")

    def ask(name: str, body: object) -> Any:
        s3.put_object(Bucket=bucket, Key=prefix + name, Body=json.dumps(body).encode())
        return runtime.invoke_endpoint_async(
            EndpointName=f"{name_of(QUEUED)}-async",
            ContentType="application/json",
            InputLocation=f"s3://{bucket}/{prefix}{name}",
        )

    def read(uri: str) -> bytes | None:
        where, _, key = uri.removeprefix("s3://").partition("/")
        found = s3.list_objects_v2(Bucket=where, Prefix=key)
        return s3.get_object(Bucket=where, Key=key)["Body"].read() if found["KeyCount"] else None

    with steps.step("an asynchronous call, and one that fails"):
        good = ask("good", {"inputs": "Hello", "parameters": {"max_new_tokens": 4}})
        bad = ask("bad", {"inputs": "Hello", "parameters": {"top_p": 2}})
        answer = wait_until(lambda: read(good["OutputLocation"]), 30, "an answer in S3")
        fault = wait_until(lambda: read(bad["FailureLocation"]), 30, "a failure in S3")
    assert json.loads(answer)[0]["generated_text"]
    assert b"Received client error (422)" in fault
    assert b"top_p" in fault
    assert read(bad["OutputLocation"]) is None


def a_broken_package_is_rolled_back(
    steps: Steps,
    aws: Callable[..., Any],
    runtime: Any,
    cdk: Callable[..., Any],
    app: str,
) -> None:
    (before,) = generate(runtime, name_of(REAL))
    with (
        steps.step("a package with a broken inference.py, rolled back under callers"),
        call_in_background(runtime, name_of(REAL), threads=1, pause_s=0.5) as seen,
    ):
        result = cdk("deploy", stack_of(REAL), *UNASKED, "--app", app, check=False)
    assert result.returncode != 0
    assert seen.errors == []
    assert seen.texts == {before["generated_text"]}
    cloudformation = aws("cloudformation")
    (stack,) = cloudformation.describe_stacks(StackName=stack_of(REAL))["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=stack_of(REAL))["StackEvents"]
    reasons = [each.get("ResourceStatusReason", "") for each in events]
    assert any("No module named 'a_module_that_is_not_there'" in reason for reason in reasons), reasons


def errors_roll_an_update_back(
    steps: Steps,
    aws: Callable[..., Any],
    runtime: Any,
    cdk: Callable[..., Any],
    app: str,
) -> None:
    with (
        steps.step("a package that answers 500, rolled back by its alarm"),
        call_in_background(runtime, name_of(SLOW), threads=2, pause_s=0.1) as seen,
    ):
        result = cdk("deploy", stack_of(SLOW), *UNASKED, "--app", app, check=False)
        at_the_end = len(seen.errors)
        served = seen.served
        wait_until(lambda: seen.served > served + 10, 30, "calls after the rollback")
        assert len(seen.errors) == at_the_end
    assert result.returncode != 0
    assert all("faulty on purpose" in error for error in seen.errors), seen.errors[:3]
    described = aws("sagemaker").describe_endpoint(EndpointName=name_of(SLOW))
    assert described["EndpointStatus"] == "InService"
    assert f"{name_of(SLOW)}-Errors" in described["FailureReason"]


def nothing_is_left(cloud: CloudSettings, aws: Callable[..., Any]) -> None:
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []
    assert aws("sagemaker").list_endpoint_configs()["EndpointConfigs"] == []
    assert aws("sagemaker").list_models()["Models"] == []
    stacks = aws("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]
    assert aws("cloudwatch").describe_alarms()["MetricAlarms"] == []
    roles = [role["RoleName"] for role in aws("iam").list_roles()["Roles"]]
    assert all(role.startswith("cdk-") or role == ROLE.rpartition("/")[2] for role in roles), roles
    # SageMaker keeps the log of an endpoint that no stack has made one for.
    groups = [group["logGroupName"] for group in aws("logs").describe_log_groups()["logGroups"]]
    assert groups == ["/aws/sagemaker/Endpoints/by-hand"]
    own = [each for each in processes.list_processes(cloud.run_dir, nested=True) if each.pid != cloud.pid]
    assert own == []
    kept = {
        item.key.split("/")[0]
        for bucket in boto3.resource("s3").buckets.all()
        for item in bucket.objects.all()
        if not item.key.endswith(".json") or "/" in item.key
    }
    assert kept == {"llm", "inf2kit-async"}, "packages and asynchronous answers are kept on purpose"
