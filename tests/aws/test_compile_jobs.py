"""Compilation jobs: the request as AWS takes it, the code that travels, the token that does not."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from environments import python

import inf2kit
from inf2kit import facts
from inf2kit.cli import main
from inf2kit.compile import job
from inf2kit.compile.spec import CompileSpec
from inf2kit.package import at, split, verify

ROLE = "arn:aws:iam::123456789012:role/service-role/Jobs"
SECRET = "hub"  # noqa: S105 - its name
TOKEN = "hf_" + "never" * 6
NOW = dt.datetime(2026, 11, 1, 12, 30, tzinfo=dt.timezone.utc)
NEURON = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]


def _plan(name: str = "llama2-7b-budget", output: str = "s3://models/m", **spec: Any) -> job.Job:
    preset = inf2kit.load_preset(name)
    secret = SECRET if preset.model.gated else None
    return job.plan(
        preset,
        CompileSpec.of(preset, **spec),
        output,
        role=ROLE,
        region="us-east-1",
        token_secret=secret,
        now=NOW,
    )


@pytest.mark.parametrize("name", NEURON)
def test_the_request_of_each_preset_is_one_that_aws_takes(name: str, bucket: Any) -> None:
    made = _plan(name)
    compute = inf2kit.load_preset(name)
    assert compute.compile is not None
    boto3.client("sagemaker").create_processing_job(**made.request)  # botocore checks it by AWS's model
    assert boto3.client("sagemaker").describe_processing_job(ProcessingJobName=made.name)
    cluster = made.request["ProcessingResources"]["ClusterConfig"]
    assert cluster["InstanceType"] == compute.compile.instance_type
    assert cluster["VolumeSizeInGB"] > 30
    image = made.request["AppSpecification"]["ImageUri"]
    assert (
        image
        == f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{facts.image().repository}:{facts.image().tag}"
    )


def test_the_token_is_named_and_never_sent(bucket: Any, tmp_path: Path, small_weights: Path) -> None:
    """The job as its container runs it, but for SageMaker: from S3, with AWS's secrets, into a package."""
    boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({"HF_TOKEN": TOKEN}))
    preset = tmp_path / "own.toml"
    preset.write_text(
        (Path(inf2kit.__file__).parent / "presets" / "llama2-7b-budget.toml")
        .read_text(encoding="utf-8")
        .replace("tensor_parallel_size = 2", "tensor_parallel_size = 1")
        .replace("sequence_length = 2048", "sequence_length = 32")
        .replace('dtype = "float16"', 'dtype = "float32"'),
        encoding="utf-8",
    )
    chosen = inf2kit.load_preset(str(preset))
    spec = CompileSpec.of(chosen, model=str(small_weights))
    made = job.plan(
        chosen, spec, "s3://models/m", role=ROLE, region="us-east-1", token_secret=SECRET, now=NOW
    )
    said: list[str] = []
    job.start(made, said.append, "us-east-1")
    assert TOKEN not in json.dumps([made.request, made.description])
    folder = tmp_path / "input"
    for found in bucket.objects.filter(Prefix="m/jobs/"):
        path = folder / found.key.partition("/code/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(found.key, str(path))
        assert TOKEN.encode() not in path.read_bytes()
    ended = subprocess.run(
        [python("0.4.1"), "-m", "inf2kit.compile.inside", str(folder / job.JOB_FILE)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}:{folder / 'vendor'}",
            "INF2KIT_HOME": str(tmp_path / "work"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stdout
    assert TOKEN not in ended.stdout
    where = ended.stdout.splitlines()[-1]
    place, digest = split(where)
    manifest = verify(at(place, "us-east-1"), digest)
    assert manifest.versions["optimum_neuron"] == "0.4.1"


def test_states_and_the_tail_of_the_log_are_followed(bucket: Any) -> None:
    made = _plan()
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=job.LOG_GROUP)
    stream = {"logGroupName": job.LOG_GROUP, "logStreamName": f"{made.name}/algo-1-1"}
    logs.create_log_stream(**stream)
    now = int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
    events = [{"timestamp": now + line, "message": f"line {line}"} for line in range(40)]
    logs.put_log_events(**stream, logEvents=events)
    boto3.client("sagemaker").create_processing_job(**made.request)
    said: list[str] = []
    job.follow(made, said.append, "us-east-1", poll_s=0.05)
    assert said[-1] == "the job is Completed"
    assert "line 39" in said
    assert "line 3" not in said, "the tail, not the whole"


def _command(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["compile", *arguments])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--job needs --role"),
        (["--role", "Jobs"], "--role is 'Jobs'; give the ARN of an execution role"),
        (["--role", ROLE], "is gated: put a token of the Hugging Face hub into Secrets Manager"),
        (
            ["--role", ROLE, "--token-secret", "x", "--region", "us-esat-1"],
            "there is no registry of deep learning containers in 'us-esat-1'; did you mean",
        ),
        (["--role", ROLE, "--token-secret", "x", "--tensor-parallel-size", "5"], "must be one of 1, 2, 4"),
        (["--role", ROLE, "--token-secret", "x", "--sequence-length", "8192"], "has 4096 positions"),
        (["--role", ROLE, "--token-secret", "x", "--push-to-hub", "a/b"], "a job pushes nothing to the hub"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: list[str], sentence: str, aws: str) -> None:
    said = _command("llama2-7b-budget", "--output", "s3://models/m", "--job", *arguments)
    assert sentence in said


def test_an_instance_that_processing_does_not_have_is_refused(tmp_path: Path, aws: str) -> None:
    text = (Path(inf2kit.__file__).parent / "presets" / "tinyllama-1.1b-starter.toml").read_text(
        encoding="utf-8"
    )
    own = tmp_path / "own.toml"
    own.write_text(text.replace("ml.m5.2xlarge", "ml.inf2.xlarge"), encoding="utf-8")
    arguments = ["--output", "s3://models/m", "--job", "--role", ROLE]
    assert "SageMaker Processing has no instance 'ml.inf2.xlarge'" in _command(str(own), *arguments)
    assert "--output is 'elsewhere'" in _command(
        "tinyllama-1.1b-starter", "--output", "elsewhere", "--job", "--role", ROLE
    )


def test_the_dry_run_prints_the_request_and_starts_nothing(aws: str) -> None:
    arguments = ["--output", "s3://models/m", "--job", "--role", ROLE, "--dry-run"]
    result = CliRunner().invoke(main, ["compile", "tinyllama-1.1b-starter", *arguments])
    assert result.exit_code == 0
    request = json.loads(result.stdout)
    assert request["ProcessingResources"]["ClusterConfig"]["InstanceType"] == "ml.m5.2xlarge"
    assert "not proven on AWS" in result.stderr
    assert boto3.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"] == []


def test_a_machine_without_the_compiler_says_where_there_is_one(tmp_path: Path) -> None:
    said = _command("llama2-7b-budget", "--output", str(tmp_path / "out"))
    assert "neuronx-cc and optimum-neuron cannot be found on this machine" in said
    assert "add --job" in said
    (tmp_path / "file").write_text("x", encoding="utf-8")
    said = _command("llama2-7b-budget", "--output", str(tmp_path / "file" / "out"))
    assert "cannot be written to" in said


def test_the_registries_are_those_of_cdk() -> None:
    code = (
        "from aws_cdk import region_info as r; import json; "
        "print(json.dumps({i.name: i.dlc_repository_account for i in r.RegionInfo.regions "
        "if i.dlc_repository_account}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == dict(facts.image().registries)
