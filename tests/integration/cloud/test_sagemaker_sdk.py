"""``inf2kit.sagemaker`` by the SageMaker SDK: deployed as the stack would, called, updated and deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.aws_double import AwsDouble
from tests.helpers.cloud import BIN, shell_environment
from tests.helpers.cloudformation import StackMaker
from tests.helpers.sagemaker import ROLE, ResourceMaker

SDK = BIN.parent / "clients-aws" / "bin" / "python"
SCRIPT = Path(__file__).parent / "sagemaker_sdk" / "deploy.py"
PRESET = "tinyllama-1.1b-starter"
#: It makes another package of the same model.
HANDLER = "from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn  # noqa: F401\n"


def test_the_sdk_deploys_what_the_stack_deploys(
    cloud: CloudSettings,
    home: Path,
    package: Callable[..., str],
    tmp_path: Path,
) -> None:
    from infra.app import build_app

    uris = [
        package(PRESET),
        package(PRESET, HANDLER),
    ]
    result = subprocess.run(
        [str(SDK), str(SCRIPT), PRESET, *uris, ROLE],
        env=shell_environment(cloud, home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    output = json.loads(result.stdout.splitlines()[-1])
    app = build_app({"package": uris[0]}, outdir=str(tmp_path / "assembly"))
    stack = app.synth().get_stack_by_name(f"inf2-{PRESET.replace('.', '-')}")
    template = {each["Type"]: each["Properties"] for each in stack.template["Resources"].values()}

    model, config = output["created"]["model"], output["created"]["config"]
    expected = template["AWS::SageMaker::Model"]
    image, join = (
        model["PrimaryContainer"].pop("Image"),
        expected["PrimaryContainer"].pop("Image")["Fn::Join"],
    )
    assert image.endswith(join[1][-1]), "the rest of it depends on the region"
    assert set(expected) == {"ExecutionRoleArn", "EnableNetworkIsolation", "PrimaryContainer", "Tags"}
    for name in ("EnableNetworkIsolation", "PrimaryContainer"):
        assert model[name] == expected[name]
    expected = template["AWS::SageMaker::EndpointConfig"]
    assert set(expected) == {"ProductionVariants", "Tags"}
    (variant,), (expected_variant,) = config["ProductionVariants"], expected["ProductionVariants"]
    assert variant.pop("ModelName") == model["ModelName"]
    expected_variant.pop("ModelName")
    assert variant == expected_variant
    tags = [tag for tag in output["created"]["tags"] if tag["Key"] != "inf2kit:rehearsal"]
    for each in (expected, template["AWS::SageMaker::Endpoint"]):
        assert sorted(map(str, tags)) == sorted(map(str, each["Tags"]))

    updated = output["updated"]["model"]["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    assert updated == uris[1]
    assert output["text"]
    assert output["left"] == []
    stack_only, volume, instances, region, again, gone = output["refused"]
    assert "nothing for alarm_email" in stack_only
    assert "volume_gb is 1; it must be within" in volume
    assert "min_instances is 0" in instances
    assert "no registry of deep learning containers in 'nowhere-1'" in region
    assert "already existing endpoint" in again
    assert "Could not find endpoint" in gone


def test_an_endpoint_of_a_stack_is_left_to_it(
    cloud: CloudSettings,
    home: Path,
    tmp_path: Path,
    maker: ResourceMaker,
    stacks: StackMaker,
    aws: Callable[..., Any],
) -> None:
    def refusals(**variables: str) -> list[str]:
        result = subprocess.run(
            [str(SDK), str(SCRIPT.with_name("delete.py")), "owned", PRESET, maker.uri],
            env=shell_environment(cloud, home) | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return list(json.loads(result.stdout.splitlines()[-1]))

    maker.create_model("owned")
    maker.create_config("owned", "owned")
    names = {"EndpointName": "owned", "EndpointConfigName": "owned"}
    endpoint = {"Type": "AWS::SageMaker::Endpoint", "Properties": names, "DeletionPolicy": "Retain"}
    assert stacks.create("inf2-owned", {"Endpoint": endpoint}) == "CREATE_COMPLETE"
    for sentence in refusals():
        assert sentence.startswith("the endpoint 'owned' belongs to the CloudFormation stack inf2-owned,")
        assert "'cdk destroy inf2-owned'" in sentence
    with AwsDouble().serving() as double:
        _, unknown = refusals(AWS_ENDPOINT_URL_CLOUDFORMATION=double.url)
    assert "may belong to a CloudFormation stack: asking CloudFormation for its stack failed" in unknown
    assert "AccessDenied" in unknown
    assert aws("sagemaker").describe_endpoint(EndpointName="owned")["EndpointStatus"] == "InService"

    stacks.delete("inf2-owned")
    update, delete = refusals()
    assert "no execution role is known here" in update, "nobody owns it: only the role is missing"
    assert not delete
    assert aws("sagemaker").list_endpoints(NameContains="owned")["Endpoints"] == []
    maker.forget_all()
