"""Compiling as a SageMaker Processing job: the endpoint's own image on a CPU instance. Not proven on AWS.

No device is needed to compile, and Processing has none. The job gets the code of this inf2kit as an input,
and the hub's token by its name in Secrets Manager, which it reads itself: a token in an environment could be
read by everybody who may describe the job.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from inf2kit import aws, catalog
from inf2kit.compile.job_bundle import bundle
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture
from inf2kit.package.stores.bucket import client
from inf2kit.presets import Preset
from inf2kit.serving.wire.parameters import nearest

Progress = Callable[[str], None]

NOT_PROVEN = "not proven on AWS: nobody has run a compilation job of this version there"
#: Where the container finds its input.
INPUT = "/opt/ml/processing/input/code"
#: The job's own description of what it is to do, beside its code.
JOB_FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """A job that is not started yet.

    Attributes:
        name: The job's name.
        request: For ``create_processing_job``.
        description: What its container is to do.
        code: The prefix that its code goes under.
    """

    name: str
    request: dict[str, Any]
    description: dict[str, Any]
    code: str


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
) -> Job:
    """The request of a job, to be printed or sent.

    Args:
        preset: Has the instance and the time-out in its table ``[compile]``.
        spec: What is compiled.
        output: ``s3://BUCKET/PREFIX`` of the packages.
        role: An execution role that may read and write there.
        region: Where job, endpoint and bucket are.
        token_secret: The name or ARN of a secret that holds the hub's token.
        now: Becomes part of the job's name.
        bucket_owner: The account that the bucket belongs to; the role's own by default.
        volume_kms_key: Encrypts the job's volume.
        subnets: In a VPC that the job reaches the hub and AWS through; SageMaker's own network by default.
        security_groups: In that VPC.

    Raises:
        CompileError: something is missing or makes no sense.
    """
    if not output.startswith("s3://"):
        raise CompileError(f"--output is {output!r}; a job writes to s3://BUCKET/PREFIX")
    if preset.compile is None:
        raise CompileError(
            f"preset {preset.name!r} has no table [compile]; add one with instance_type, such as "
            "ml.m5.12xlarge"
        )
    if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+", role):
        raise CompileError(
            f"--role is {role!r}; give the ARN of an execution role, arn:aws:iam::ACCOUNT:role/NAME"
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
    prefix = f"{output.rstrip('/')}/jobs/{name}"
    description = {
        "spec": dataclasses.asdict(spec),
        "preset": {"name": preset.name, "values": _values(preset)},
        "output": output,
        "region": region,
        "token_secret": token_secret,
        "bucket_owner": bucket_owner,
    }
    request: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": role,
        "AppSpecification": {
            "ImageUri": image_uri(region),
            "ContainerEntrypoint": ["python3", "-m", "inf2kit.compile.job_entrypoint"],
            "ContainerArguments": [f"{INPUT}/{JOB_FILE}"],
        },
        "Environment": {"PYTHONPATH": INPUT, "PYTHONUNBUFFERED": "1"},
        "ProcessingInputs": [
            {
                "InputName": "code",
                "S3Input": {
                    "S3Uri": f"{prefix}/code",
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
        "Tags": [{"Key": "inf2kit:preset", "Value": preset.name}],
    }
    if volume_kms_key:
        request["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] = volume_kms_key
    if subnets:
        network = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
        request["NetworkConfig"] = {"VpcConfig": network}
    return Job(name, request, description, f"{prefix}/code")


def image_uri(region: str) -> str:
    """The endpoint's image in a region's registry.

    Raises:
        CompileError: there is none in that region.
    """
    image = catalog.image()
    account = image.registries.get(region)
    if account is None:
        close = nearest([region], *image.registries) or ";"
        raise CompileError(
            f"there is no registry of deep learning containers in {region!r}{close} there are "
            f"{', '.join(image.registries)}"
        )
    with aws.translate_errors(
        CompileError, f"asking boto3 for the domain of {region}, which a newer one may know,"
    ):
        domain = aws.dns_suffix(region)
    return f"{account}.dkr.ecr.{region}.{domain}/{image.repository}:{image.tag}"


def start(job: Job, progress: Progress, region: str) -> None:
    """Put the code where the job finds it, and start the job.

    Raises:
        CompileError: AWS refuses.
    """
    bucket, _, prefix = job.code.removeprefix("s3://").partition("/")
    files = bundle()
    s3, _ = client(region, job.description["bucket_owner"])
    progress(f"sending {len(files)} files of code to {job.code}")
    with aws.translate_errors(CompileError, f"sending code to {job.code}"):
        with ThreadPoolExecutor(10) as pool:
            for _ in pool.map(
                lambda each: s3.upload_file(str(each[1]), bucket, f"{prefix}/{each[0]}"), files.items()
            ):
                pass
        body = json.dumps(job.description).encode()
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{JOB_FILE}", Body=body)
    with aws.translate_errors(CompileError, f"starting the job {job.name}"):
        aws.client("sagemaker", region).create_processing_job(**job.request)
    progress(f"the job {job.name} is started; {NOT_PROVEN}")


def _check_instance(instance_type: str) -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    known = model.shape_for("ProcessingInstanceType").enum
    if instance_type not in known:
        close = nearest([instance_type], *known) or "; choose one such as ml.m5.12xlarge"
        raise CompileError(f"SageMaker Processing has no instance {instance_type!r}{close}")


def _volume_gb(spec: CompileSpec) -> int:
    """Weights as fetched, as shards, and as the package links them; and the compiler's files."""
    if spec.model not in catalog.models():
        return 200
    return 30 + round(4 * spec.weight_bytes(Architecture.find(spec.model)) / 1e9)


def _values(preset: Preset) -> dict[str, Any]:
    """The preset as its file has it: without what is not set."""
    tables = dataclasses.asdict(preset)
    del tables["name"]
    return {
        name: {key: value for key, value in table.items() if value is not None}
        if isinstance(table, dict)
        else table
        for name, table in tables.items()
        if table is not None
    }
