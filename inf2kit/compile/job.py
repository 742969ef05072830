"""Compile in a SageMaker Processing job: the endpoint's own image on a CPU instance. Not proven on AWS.

Compilation needs no device, and Processing has none. The job receives the code of this inf2kit as an input.
It reads the hub's token from Secrets Manager itself: a token in the job's environment could be read by
everybody who may describe the job.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import aws, catalog
from inf2kit.catalog.registry import image_uri
from inf2kit.compile.job_bundle import bundle
from inf2kit.compile.job_description import JobDescription
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError, PackageError, suggest
from inf2kit.fit import Architecture
from inf2kit.names import PRESET_TAG
from inf2kit.package.handler import check_handler
from inf2kit.package.stores.bucket import create_client
from inf2kit.package.stores.encryption import Encryption
from inf2kit.package.stores.places import parse_bucket_place
from inf2kit.presets import Preset

Progress = Callable[[str], None]

NOT_PROVEN = "not proven on AWS: no compilation job of this version has run there"
#: The folder of the job's input in its container.
INPUT = "/opt/ml/processing/input/code"
#: The job's description, in that folder.
JOB_FILE = "job.json"
_HANDLER_FOLDER = "handler"
_UPLOAD_THREADS = 10


@dataclass(frozen=True)
class JobPlan:
    """A job that is not started yet.

    Attributes:
        name: The job's name.
        request: The arguments of ``create_processing_job``.
        description: What the container is to do.
        code_uri: The ``s3://`` prefix that the job's input goes under.
        handler: The user's own ``inference.py``, which becomes part of the input.
    """

    name: str
    request: Mapping[str, Any]
    description: JobDescription
    code_uri: str
    handler: Path | None

    def lines(self) -> list[str]:
        """Return the request for ``--dry-run``, as JSON."""
        return json.dumps(self.request, indent=2).splitlines()


def plan(
    preset: Preset,
    spec: CompileSpec,
    output: str,
    *,
    role: str,
    region: str,
    token_secret: str | None,
    now: dt.datetime,
    bucket_owner: str | None = None,
    volume_kms_key: str | None = None,
    subnets: Sequence[str] = (),
    security_groups: Sequence[str] = (),
    handler: Path | None = None,
    encryption: Encryption | None = None,
) -> JobPlan:
    """Plan a job, without calling AWS.

    Args:
        preset: Names the instance and the time limit in its table ``[compile]``.
        spec: What to compile.
        output: ``s3://BUCKET/PREFIX`` of the packages.
        role: The ARN of an execution role that may read and write there.
        region: The region of job, endpoint and bucket.
        token_secret: The name or ARN of a secret that holds the hub's token.
        now: The time that becomes part of the job's name.
        bucket_owner: The account that the bucket belongs to; the role's own by default.
        volume_kms_key: The ARN of a key that encrypts the job's volume.
        subnets: Subnets of a VPC from which the job reaches the hub and AWS; SageMaker's network by default.
        security_groups: Security groups of that VPC.
        handler: A file that ships as ``code/inference.py`` instead of inf2kit's own.
        encryption: How S3 encrypts the package and the job's input; as the bucket's default says without it.

    Raises:
        CompileError: an argument is missing or wrong.
        PackageError: the handler cannot serve.
    """
    try:
        parse_bucket_place(output)
    except PackageError as error:
        raise CompileError(f"--output: {error}, as a job writes to S3") from None
    if preset.compile is None:
        raise CompileError(
            f"preset {preset.name!r} has no table [compile]; add one with instance_type, such as "
            "ml.m5.12xlarge"
        )
    if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+", role):
        raise CompileError(
            f"--role is {role!r}; give the ARN of an execution role, arn:aws:iam::ACCOUNT:role/NAME"
        )
    image = image_uri(region, CompileError)
    if role.split(":")[1] != aws.partition(region):
        raise CompileError(
            f"--role is {role!r}; a job in {region} needs a role of an account there: "
            f"arn:{aws.partition(region)}:iam::ACCOUNT:role/NAME"
        )
    if preset.model.gated and spec.model == preset.model.id and not token_secret:
        raise CompileError(
            f"{spec.model} is gated: put a token of the Hugging Face hub into Secrets Manager and give its "
            "name with --token-secret"
        )
    if bool(subnets) != bool(security_groups):
        raise CompileError("a job in a VPC needs both: --subnet and --security-group")
    _check_instance(preset.compile.instance_type)
    name = f"inf2kit-{preset.endpoint_name[:34].rstrip('-')}-{now:%Y%m%d-%H%M%S}"
    code_uri = f"{output.rstrip('/')}/jobs/{name}/code"
    handler_path = f"{_HANDLER_FOLDER}/{check_handler(handler).name}" if handler else None
    request: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": role,
        "AppSpecification": {
            "ImageUri": image,
            "ContainerEntrypoint": ["python3", "-m", "inf2kit.compile.job_entrypoint"],
            "ContainerArguments": [f"{INPUT}/{JOB_FILE}"],
        },
        "Environment": {"PYTHONPATH": INPUT, "PYTHONUNBUFFERED": "1"},
        "ProcessingInputs": [
            {
                "InputName": "code",
                "S3Input": {
                    "S3Uri": code_uri,
                    "LocalPath": INPUT,
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": preset.compile.instance_type,
                "VolumeSizeInGB": _volume_gb(spec),
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": preset.compile.max_runtime_s},
        "Tags": [{"Key": PRESET_TAG, "Value": preset.name}],
    }
    if volume_kms_key:
        request["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] = volume_kms_key
    if subnets:
        network = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
        request["NetworkConfig"] = {"VpcConfig": network}
    description = JobDescription(
        spec, preset, output, region, token_secret, bucket_owner, handler_path, encryption
    )
    return JobPlan(name, request, description, code_uri, handler)


def execute(plan: JobPlan, progress: Progress) -> None:
    """Upload the job's input and start the job.

    Args:
        plan: The job.
        progress: Called with the name of each step.

    Raises:
        CompileError: AWS refuses a call.
        PackageError: a package that the job needs is not installed.
    """
    description = plan.description
    files = bundle()
    if description.handler and plan.handler:
        files[description.handler] = plan.handler
    bucket, _, prefix = plan.code_uri.removeprefix("s3://").partition("/")
    s3, _ = create_client(description.region, description.bucket_owner)

    encrypted = description.encryption.arguments() if description.encryption else {}

    def upload(path: str) -> None:
        s3.upload_file(str(files[path]), bucket, f"{prefix}/{path}", ExtraArgs=encrypted)

    progress(f"sending {len(files)} files of code to {plan.code_uri}")
    with aws.translate_errors(CompileError, f"sending code to {plan.code_uri}"):
        with ThreadPoolExecutor(_UPLOAD_THREADS) as pool:
            list(pool.map(upload, files))
        body = description.to_json().encode()
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{JOB_FILE}", Body=body, **encrypted)
    with aws.translate_errors(CompileError, f"starting the job {plan.name}"):
        aws.client("sagemaker", description.region).create_processing_job(**plan.request)
    progress(f"the job {plan.name} is started; {NOT_PROVEN}")


def _check_instance(instance_type: str) -> None:
    instance_types = aws.service_model("sagemaker").shape_for("ProcessingInstanceType").enum
    if instance_type not in instance_types:
        suggestion = suggest(instance_type, instance_types) or "; choose one such as ml.m5.12xlarge"
        raise CompileError(f"SageMaker Processing has no instance {instance_type!r}{suggestion}")


def _volume_gb(spec: CompileSpec) -> int:
    """Estimate the volume: weights as fetched and as shards, the package, and the compiler's files."""
    if spec.model not in catalog.models():
        return 200
    return 30 + round(4 * spec.weight_bytes(Architecture.find(spec.model)) / 1e9)
