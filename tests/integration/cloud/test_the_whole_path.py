"""The whole path of a user: bootstrap, deploy, call, update, break, scale, destroy.

One test, since each step needs the resources of earlier steps. Independent endpoints are handled in parallel.
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

# It has a cloud of its own: the end of the test expects an empty one.
pytestmark = pytest.mark.xdist_group("tests/integration/cloud/test_the_whole_path.py")

REAL, SLOW, QUEUED = "tinyllama-1.1b-starter", "llama2-7b-throughput", "llama2-7b-latency"
NO_APPROVAL = ("--require-approval", "never")
#: A user's handler whose engine takes 20 s to load; the stacks do not pass this variable on.
SLOW_LOAD_HANDLER = """
import os

os.environ["INF2KIT_SIMULATED_LOAD_SECONDS"] = "20"
from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn
"""
#: A user's handler that cannot be imported.
BROKEN_HANDLER = """
import a_module_that_is_not_there
from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn
"""
#: A user's handler that becomes ready and answers the calls of this test with 500.
FAULTY_HANDLER = """
from inf2kit.errors import RequestError
from inf2kit.serving import worker
from inf2kit.serving.worker import input_fn, model_fn, output_fn


def predict_fn(data, model, context=None):
    if isinstance(data, dict) and data.get("inputs") == "Hello":
        return RequestError(500, "faulty", "faulty on purpose")
    return worker.predict_fn(data, model, context)
"""


class Steps:
    """Times the steps, and prints the times when the test has passed."""

    def __init__(self, figure: Callable[[str], None]) -> None:
        self._figure = figure

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._figure(f"rehearsal: {time.monotonic() - began:5.1f} s {name}")


@pytest.fixture
def steps(figure: Callable[[str], None]) -> Steps:
    return Steps(figure)


def endpoint_name(preset: str) -> str:
    return inf2kit.load_preset(preset).endpoint_name


def stack_name(preset: str) -> str:
    return f"inf2-{endpoint_name(preset)}"


@pytest.mark.timeout(1200)
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
        uris = {
            REAL: publish_package(collect(inf2kit.load_preset(REAL), small_weights, rehearsal=True)),
            SLOW: package(SLOW, SLOW_LOAD_HANDLER),
            QUEUED: package(QUEUED),
        }
    options = [
        *NO_APPROVAL,
        *("--concurrency", "3", "-c", f"package={','.join(uris.values())}"),
        *("-c", f"{QUEUED}={json.dumps({'asynchronous': True})}"),
    ]
    with steps.step("cdk deploy of three presets, one of them asynchronous"):
        assembly = str(tmp_path / "assembly")
        cdk("deploy", *map(stack_name, uris), *options, "--output", assembly)
    with steps.step("cdk diff, by the template and by a change set"):
        for method in ("template", "change-set"):
            diff = cdk("diff", stack_name(REAL), "--app", assembly, f"--method={method}")
            assert "There were no differences" in diff.stdout + diff.stderr
    with steps.step("calls and streams by boto3"):
        check_calls_and_streams(runtime)
    path = packages.write_handler(tmp_path / "broken.py", BROKEN_HANDLER)
    broken = collect(inf2kit.load_preset(REAL), small_weights, rehearsal=True, handler=path)
    assemblies = synthesize(
        tmp_path,
        update={"package": uris[SLOW], "environment": "INF2KIT_QUEUE_SIZE=16"},
        broken={"package": publish_package(broken)},
        faulty={"package": package(SLOW, FAULTY_HANDLER)},
    )
    run_in_parallel(
        lambda: check_update_under_calls(steps, runtime, cdk, assemblies["update"]),
        lambda: check_endpoint_by_boto3(steps, cloud, aws, runtime, package(SLOW)),
        lambda: check_asynchronous_calls(steps, aws),
    )
    run_in_parallel(
        lambda: check_rollback_of_broken_package(steps, aws, runtime, cdk, assemblies["broken"]),
        lambda: check_rollback_by_alarm(steps, aws, runtime, cdk, assemblies["faulty"]),
    )
    with steps.step("cdk destroy"):
        cdk("destroy", "--force", *map(stack_name, uris), "--app", assembly)
        check_nothing_is_left(cloud, aws)
    with steps.step(f"in all, {time.monotonic() - began:.0f} s"):
        pass


def run_in_parallel(*checks: Callable[[], None]) -> None:
    with ThreadPoolExecutor() as pool:
        for job in [pool.submit(check) for check in checks]:
            job.result()


def check_calls_and_streams(runtime: Any) -> None:
    (answer,) = generate(runtime, endpoint_name(REAL), "The capital of France is", details=True)
    assert answer["details"]["generated_tokens"] == 4
    assert not any("simulated" in warning for warning in answer["warnings"]), "a real model answers"
    body = json.dumps({"inputs": "Hello", "parameters": {"max_new_tokens": 3}, "stream": True})
    for preset in (REAL, SLOW):
        response = runtime.invoke_endpoint_with_response_stream(
            EndpointName=endpoint_name(preset), ContentType="application/json", Body=body
        )
        events = b"".join(part["PayloadPart"]["Bytes"] for part in response["Body"]).split(b"\n\n")
        assert len([event for event in events if event.startswith(b"data:")]) == 3
        assert "rehearsal" in response["CustomAttributes"], "the response says what is simulated"


def synthesize(folder: Path, **contexts: dict[str, str]) -> dict[str, str]:
    """Synthesize the assemblies of later deployments in this process, where CDK starts only once."""
    for name, context in contexts.items():
        build_app(context, outdir=str(folder / name)).synth()
    return {name: str(folder / name) for name in contexts}


def check_update_under_calls(steps: Steps, runtime: Any, cdk: Callable[..., Any], assembly: str) -> None:
    with (
        steps.step("an environment value updated under callers, with a load of 20 s"),
        call_in_background(runtime, endpoint_name(SLOW), pause_s=0.2) as calls,
    ):
        cdk("deploy", stack_name(SLOW), *NO_APPROVAL, "--app", assembly)
    assert calls.errors == []
    assert calls.served > 20


def check_endpoint_by_boto3(
    steps: Steps, cloud: CloudSettings, aws: Callable[..., Any], runtime: Any, uri: str
) -> None:
    """Scale an endpoint to two instances, then update it to a model without the gateway's variables."""
    sagemaker, name = aws("sagemaker"), "by-hand"
    endpoint = sagemaker.describe_endpoint(EndpointName=endpoint_name(SLOW))
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    container = sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
    source = {**container["ModelDataSource"]["S3DataSource"], "S3Uri": uri}
    without_gateway = {**container["Environment"], "MMS_INFERENCE_ADDRESS": "http://0.0.0.0:8080"}
    del without_gateway["INF2KIT_GATEWAY_ADDRESS"]
    containers = {
        # A step takes 50 ms in which the processor is idle.
        "quick": {
            **container,
            "ModelDataSource": {"S3DataSource": source},
            "Environment": {
                **container["Environment"],
                "INF2KIT_PACKAGE_DIGEST": uri.split("/")[-2],
                "INF2KIT_SIMULATED_STEP_SECONDS": "0.05",
            },
        },
        "without-gateway": {**container, "Environment": without_gateway},
    }
    for model, definition in containers.items():
        sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=definition)
        variants = [{**variant, "ModelName": model}]
        sagemaker.create_endpoint_config(EndpointConfigName=model, ProductionVariants=variants)
    with steps.step("an endpoint by boto3"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="quick")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    with steps.step("a second instance of it because of its calls; both serve"):
        check_scaling(cloud, aws, runtime, name)
    with (
        steps.step("an update that forgets the gateway: callers notice"),
        call_in_background(runtime, name, pause_s=0.2) as calls,
    ):
        sagemaker.update_endpoint(EndpointName=name, EndpointConfigName="without-gateway")
        wait_until(lambda: calls.errors, "calls that fail")
    sagemaker.delete_endpoint(EndpointName=name)
    for model in containers:
        sagemaker.delete_endpoint_config(EndpointConfigName=model)
        sagemaker.delete_model(ModelName=model)
    assert any("503" in error for error in calls.errors), calls.errors[:3]


def check_scaling(cloud: CloudSettings, aws: Callable[..., Any], runtime: Any, name: str) -> None:
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

    with call_in_background(runtime, name, threads=3, pause_s=0.0, max_new_tokens=20) as calls:
        wait_until(lambda: instances() == 2, "a second instance")
        before, served = processor_time(cloud, name), calls.served
        wait_until(lambda: calls.served > served + 10, "calls")
    after = processor_time(cloud, name)
    assert calls.errors == []
    assert len(before) == 2
    assert all(after[pid] > before[pid] for pid in before), (before, after)
    scaling.delete_scaling_policy(PolicyName="track", **target)
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=1)
    wait_until(lambda: instances() == 1, "one instance again, the new maximum")
    scaling.deregister_scalable_target(**target)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})


def processor_time(cloud: CloudSettings, endpoint: str) -> dict[int, float]:
    """Processor seconds of each model server of an endpoint, by process id."""
    seconds: dict[int, float] = {}
    for process in processes.list_processes(cloud.run_dir, nested=True):
        try:
            base_dir = process.environ().get("SAGEMAKER_BASE_DIR", "")
            if f"/{endpoint}/" in base_dir and "java" in process.name():
                seconds[process.pid] = sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return seconds


def check_asynchronous_calls(steps: Steps, aws: Callable[..., Any]) -> None:
    runtime, s3 = aws("sagemaker-runtime"), aws("s3")
    parameter = aws("ssm").get_parameter(Name=f"/inf2kit/presets/{QUEUED}")["Parameter"]
    input_uri = json.loads(parameter["Value"])["async_input"]
    bucket, _, prefix = input_uri.removeprefix("s3://").partition("/")

    def invoke(name: str, body: object) -> Any:
        s3.put_object(Bucket=bucket, Key=prefix + name, Body=json.dumps(body).encode())
        return runtime.invoke_endpoint_async(
            EndpointName=f"{endpoint_name(QUEUED)}-async",
            ContentType="application/json",
            InputLocation=f"s3://{bucket}/{prefix}{name}",
        )

    def read(uri: str) -> bytes | None:
        output_bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not s3.list_objects_v2(Bucket=output_bucket, Prefix=key)["KeyCount"]:
            return None
        content: bytes = s3.get_object(Bucket=output_bucket, Key=key)["Body"].read()
        return content

    with steps.step("an asynchronous call, and one that fails"):
        good = invoke("good", {"inputs": "Hello", "parameters": {"max_new_tokens": 4}})
        bad = invoke("bad", {"inputs": "Hello", "parameters": {"top_p": 2}})
        response = wait_until(lambda: read(good["OutputLocation"]), "a response in S3")
        failure = wait_until(lambda: read(bad["FailureLocation"]), "a failure in S3")
    assert json.loads(response)[0]["generated_text"]
    assert b"Received client error (422)" in failure
    assert b"top_p" in failure
    assert read(bad["OutputLocation"]) is None


def check_rollback_of_broken_package(
    steps: Steps,
    aws: Callable[..., Any],
    runtime: Any,
    cdk: Callable[..., Any],
    assembly: str,
) -> None:
    (before,) = generate(runtime, endpoint_name(REAL))
    with (
        steps.step("a package with a broken inference.py, rolled back under callers"),
        call_in_background(runtime, endpoint_name(REAL), threads=1, pause_s=0.5) as calls,
    ):
        result = cdk("deploy", stack_name(REAL), *NO_APPROVAL, "--app", assembly, check=False)
    assert result.returncode != 0
    assert calls.errors == []
    assert calls.texts == {before["generated_text"]}
    cloudformation = aws("cloudformation")
    (stack,) = cloudformation.describe_stacks(StackName=stack_name(REAL))["Stacks"]
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    events = cloudformation.describe_stack_events(StackName=stack_name(REAL))["StackEvents"]
    reasons = [event.get("ResourceStatusReason", "") for event in events]
    assert any("No module named 'a_module_that_is_not_there'" in reason for reason in reasons), reasons


def check_rollback_by_alarm(
    steps: Steps,
    aws: Callable[..., Any],
    runtime: Any,
    cdk: Callable[..., Any],
    assembly: str,
) -> None:
    with (
        steps.step("a package that answers 500, rolled back by its alarm"),
        call_in_background(runtime, endpoint_name(SLOW), threads=2, pause_s=0.1) as calls,
    ):
        result = cdk("deploy", stack_name(SLOW), *NO_APPROVAL, "--app", assembly, check=False)
        errors, served = len(calls.errors), calls.served
        wait_until(lambda: calls.served > served + 10, "calls after the rollback")
        assert len(calls.errors) == errors
    assert result.returncode != 0
    assert all("faulty on purpose" in error for error in calls.errors), calls.errors[:3]
    endpoint = aws("sagemaker").describe_endpoint(EndpointName=endpoint_name(SLOW))
    assert endpoint["EndpointStatus"] == "InService"
    assert f"{endpoint_name(SLOW)}-Errors" in endpoint["FailureReason"]


def check_nothing_is_left(cloud: CloudSettings, aws: Callable[..., Any]) -> None:
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []
    assert aws("sagemaker").list_endpoint_configs()["EndpointConfigs"] == []
    assert aws("sagemaker").list_models()["Models"] == []
    stacks = aws("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]
    assert aws("cloudwatch").describe_alarms()["MetricAlarms"] == []
    roles = [role["RoleName"] for role in aws("iam").list_roles()["Roles"]]
    assert all(role.startswith("cdk-") or role == ROLE.rpartition("/")[2] for role in roles), roles
    # A log group that SageMaker created, and not a stack, outlives its endpoint.
    groups = [group["logGroupName"] for group in aws("logs").describe_log_groups()["logGroups"]]
    assert groups == ["/aws/sagemaker/Endpoints/by-hand"]
    running = processes.list_processes(cloud.run_dir, nested=True)
    assert [process for process in running if process.pid != cloud.pid] == []
    folders = {
        item.key.split("/")[0]
        for bucket in boto3.resource("s3").buckets.all()
        for item in bucket.objects.all()
        if not item.key.endswith(".json") or "/" in item.key
    }
    assert folders == {"llm", "inf2kit-async"}, "packages and asynchronous answers are kept on purpose"
