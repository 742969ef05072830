"""Compilation jobs: the request as AWS takes it, the code that travels, the token that does not."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit import catalog
from inf2kit.catalog.registry import image_uri
from inf2kit.cli.commands import main
from inf2kit.compile import disk_space, job, job_entrypoint, job_progress
from inf2kit.compile.job_description import JobDescription
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.package import collect, open_store, split_uri, verify
from infra.context import Context
from tests.helpers import packages, strict_s3
from tests.helpers.neuron import find_python
from tests.helpers.processing_double import ProcessingDouble
from tests.helpers.servers import PATIENCE_S

ROLE = "arn:aws:iam::123456789012:role/service-role/Jobs"
SECRET = "hub"  # noqa: S105 - its name
TOKEN = "hf_" + "never" * 6
NETWORK = {"subnets": ["subnet-1"], "security_groups": ["sg-1"]}
NOW = dt.datetime(2026, 11, 1, 12, 30, tzinfo=dt.timezone.utc)
NEURON = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a job would choose for its process, so that none of it is left to the next test."""
    for name in ("INF2KIT_HOME", "HF_HOME", "NEURON_COMPILE_CACHE_URL"):
        monkeypatch.setenv(name, str(tmp_path / name))


def _plan(name: str = "llama2-7b-budget", output: str = "s3://models/m", **options: Any) -> job.JobPlan:
    preset = inf2kit.load_preset(name)
    secret = SECRET if preset.model.gated else None
    return job.plan(
        preset,
        CompileSpec.from_preset(preset),
        output,
        role=ROLE,
        region="us-east-1",
        token_secret=secret,
        now=NOW,
        **options,
    )


@pytest.mark.parametrize("name", NEURON)
def test_the_request_of_each_preset_is_one_that_aws_takes(name: str, bucket: Any) -> None:
    plan = _plan(name)
    compute = inf2kit.load_preset(name)
    assert compute.compile is not None
    boto3.client("sagemaker").create_processing_job(**plan.request)  # botocore checks it by AWS's model
    assert boto3.client("sagemaker").describe_processing_job(ProcessingJobName=plan.name)
    cluster = plan.request["ProcessingResources"]["ClusterConfig"]
    assert cluster["InstanceType"] == compute.compile.instance_type
    assert cluster["VolumeSizeInGB"] > 30
    image = plan.request["AppSpecification"]["ImageUri"]
    assert (
        image
        == f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{catalog.image().repository}:{catalog.image().tag}"
    )


def test_the_token_is_named_and_never_sent(bucket: Any, tmp_path: Path, small_weights: Path) -> None:
    """The job as its container runs it, but for SageMaker: from S3, with AWS's secrets, into a package."""
    boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({"HF_TOKEN": TOKEN}))
    preset_file = tmp_path / "own.toml"
    preset_file.write_text(
        (Path(inf2kit.__file__).parent / "presets" / "llama2-7b-budget.toml")
        .read_text(encoding="utf-8")
        .replace("tensor_parallel_size = 2", "tensor_parallel_size = 1")
        .replace("sequence_length = 2048", "sequence_length = 32")
        .replace('dtype = "float16"', 'dtype = "float32"'),
        encoding="utf-8",
    )
    preset = inf2kit.load_preset(str(preset_file))
    spec = CompileSpec.from_preset(preset, model=str(small_weights))
    plan = job.plan(
        preset,
        spec,
        "s3://models/m",
        role=ROLE,
        region="us-east-1",
        token_secret=SECRET,
        now=NOW,
        handler=packages.write_handler(tmp_path / "upper_case.py"),
    )
    progress: list[str] = []
    job.execute(plan, progress.append)
    assert TOKEN not in json.dumps(plan.request) + plan.description.to_json()
    folder = tmp_path / "input"
    for stored in bucket.objects.filter(Prefix="m/jobs/"):
        path = folder / stored.key.partition("/code/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(stored.key, str(path))
        assert TOKEN.encode() not in path.read_bytes()
    ended = subprocess.run(
        [find_python("0.4.1"), "-m", "inf2kit.compile.job_entrypoint", str(folder / job.JOB_FILE)],
        cwd=tmp_path,
        env=_environment(plan, folder, tmp_path / "work"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 0, ended.stdout
    assert TOKEN not in ended.stdout
    last = ended.stdout.splitlines()[-1]
    assert last.startswith(job_progress.PACKAGE_LINE)
    where = last.removeprefix(job_progress.PACKAGE_LINE)
    place, digest = split_uri(where)
    manifest = verify(open_store(place, "us-east-1"), digest)
    assert manifest.versions["optimum_neuron"] == "0.4.1"
    assert manifest.handler == "upper_case.py"
    handler = bucket.Object(f"m/{digest}/code/inference.py").get()["Body"].read()
    assert handler == packages.HANDLER.encode()


@pytest.mark.parametrize(
    ("secret", "token"),
    [
        (f"{TOKEN}\n", TOKEN),  # from a file
        (json.dumps({"HF_TOKEN": f" {TOKEN}"}), TOKEN),
        (f"{TOKEN}\nmore", None),
        (json.dumps({"HF_TOKEN": 7}), None),
        ("hf_", None),
    ],
)
def test_a_secret_is_a_token_whatever_is_around_it(secret: str, token: str | None, aws: str) -> None:
    """The hub's client would print a token with a newline in it."""
    boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString=secret)
    if token:
        assert job_entrypoint.read_token(SECRET, "us-east-1") == token
        return
    with pytest.raises(CompileError, match="the secret hub holds no token of the Hugging Face hub") as raised:
        job_entrypoint.read_token(SECRET, "us-east-1")
    assert TOKEN not in str(raised.value)


def test_a_job_never_prints_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"spec": {TOKEN: 1}}), encoding="utf-8")
    assert job_entrypoint.main(str(tmp_path / "job.json"), tmp_path / "message") == 1
    assert TOKEN not in capsys.readouterr().out + (tmp_path / "message").read_text(encoding="utf-8")


def test_states_and_the_tail_of_the_log_are_followed(bucket: Any) -> None:
    plan = _plan()
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=job_progress.LOG_GROUP)
    stream = {"logGroupName": job_progress.LOG_GROUP, "logStreamName": f"{plan.name}/algo-1-1"}
    logs.create_log_stream(**stream)
    now = int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
    place = f"s3://models/m/{32 * '0'}/"
    log_lines = [*(f"line {line}" for line in range(40)), f"{job_progress.PACKAGE_LINE}{place}"]
    events = [{"timestamp": now + number, "message": line} for number, line in enumerate(log_lines)]
    logs.put_log_events(**stream, logEvents=events)
    boto3.client("sagemaker").create_processing_job(**plan.request)
    progress: list[str] = []
    # SageMaker's own message may be missing; the log has the place too.
    assert job_progress.follow(plan.name, progress.append, "us-east-1", poll_s=0.05) == place
    assert progress[-1] == "the job is Completed"
    assert "line 39" in progress
    assert "line 3" not in progress, "the tail, not the whole"


@pytest.fixture
def processing(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessingDouble]:
    """Jobs that publish a package into the bucket, as those of AWS would."""

    def work(request: dict[str, Any]) -> str:
        (source,) = [entry["S3Input"] for entry in request["ProcessingInputs"]]
        bucket_name, _, prefix = source["S3Uri"].removeprefix("s3://").partition("/")
        content = boto3.resource("s3").Object(bucket_name, f"{prefix}/{job.JOB_FILE}").get()["Body"].read()
        (tmp_path / job.JOB_FILE).write_bytes(content)
        description = JobDescription.from_file(tmp_path / job.JOB_FILE)
        artifacts = packages.write_artifacts(tmp_path / "artifacts", description.preset)
        store = open_store(description.output, description.region)
        return packages.publish(collect(description.preset, artifacts), store).uri

    double = ProcessingDouble(work)
    with double.serving() as url:
        for service in ("SAGEMAKER", "CLOUDWATCH_LOGS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
        yield double


@pytest.mark.parametrize("ends_early", [False, True])
def test_what_a_job_has_compiled_is_deployed_by_the_command_that_it_prints(
    ends_early: bool, processing: ProcessingDouble
) -> None:
    """The manifest is on this machine then, also if the job was followed by a second command only."""
    arguments = ["compile", "tinyllama-1.1b-starter", "--output", "s3://models/m"]
    started = [*arguments, "--job", "--role", ROLE]
    if ends_early:
        job.execute(_plan("tinyllama-1.1b-starter"), lambda _: None)
        started = [*arguments, "--follow", processing.request["ProcessingJobName"]]
    result = CliRunner().invoke(main, started)
    assert result.exit_code == 0, result.output
    uri = result.stdout.strip()
    assert f"deploy: cdk deploy inf2-tinyllama-1-1b-starter -c package={uri}" in result.stderr
    context = Context.parse({"package": uri})
    props = context.endpoint_props(inf2kit.load_preset("tinyllama-1.1b-starter"))
    assert props.package is not None
    assert props.package.uri == uri


def test_a_jobs_log_is_not_read_from_its_beginning_each_time(processing: ProcessingDouble) -> None:
    processing.looks, processing.lines_per_look = 20, 10
    plan = _plan("tinyllama-1.1b-starter")
    job.execute(plan, lambda _: None)
    progress: list[str] = []
    job_progress.follow(plan.name, progress.append, "us-east-1", poll_s=0.01)
    lines = [line for line in progress if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert len(lines) == 210
    # Ten new ones, and the three of the last minute, in which others may still arrive.
    assert max(processing.returned) <= 13


def test_ctrl_c_leaves_the_job_and_says_how_to_follow_it(
    aws: str, processing: ProcessingDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "never seen"

    processing.work = stop
    arguments = ["compile", "tinyllama-1.1b-starter", "--output", "s3://models/m", "--job", "--role", ROLE]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 130
    name = processing.request["ProcessingJobName"]
    assert result.stderr.splitlines()[-1] == (
        "the job continues; follow it again: inf2kit compile tinyllama-1.1b-starter --output s3://models/m "
        f"--follow {name} --region us-east-1"
    )


def _environment(plan: job.JobPlan, folder: Path, work: Path) -> dict[str, str]:
    """The container's, but for the path of its input and what a small machine needs."""
    variables = {
        name: value.replace(job.INPUT, str(folder)) for name, value in plan.request["Environment"].items()
    }
    return {**os.environ, **variables, "INF2KIT_HOME": str(work)}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "the job failed where nothing was expected to: KeyError: 'spec'"),
        ({"spec": {"model": "x"}}, "the job failed where nothing was expected to: TypeError: "),
    ],
)
def test_whatever_a_job_dies_of_is_its_message(
    description: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.json").write_text(json.dumps(description), encoding="utf-8")
    message_file = tmp_path / "output/message"
    assert job_entrypoint.main(str(tmp_path / "job.json"), message_file) == 1
    assert message_file.read_text(encoding="utf-8").startswith(message)
    output = capsys.readouterr()
    assert output.out.splitlines()[-1].startswith(message)
    assert "Traceback" not in output.out + output.err


def test_a_jobs_message_is_a_kilobyte_of_utf_8_at_most(tmp_path: Path) -> None:
    """SageMaker lets the job fail otherwise."""
    (tmp_path / "job.json").write_text(json.dumps({"spec": {"\ud800" + 2000 * "ü": 1}}), encoding="utf-8")
    message = tmp_path / "output/message"
    assert job_entrypoint.main(str(tmp_path / "job.json"), message) == 1
    content = message.read_bytes()
    assert 1000 < len(content) <= 1024
    assert "ü" in content.decode("utf-8")


def test_a_job_that_may_not_write_ends_before_it_compiles(
    aws: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan("tinyllama-1.1b-starter")
    (tmp_path / "job.json").write_text(plan.description.to_json(), encoding="utf-8")
    with strict_s3.strict_proxy(aws, strict_s3.deny_writes) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert job_entrypoint.main(str(tmp_path / "job.json"), tmp_path / "message") == 1
    assert "writing to s3://models/m/ failed" in (tmp_path / "message").read_text(encoding="utf-8")


def test_a_jobs_code_goes_to_a_bucket_of_the_right_owner_only(
    aws: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with strict_s3.strict_proxy(aws, strict_s3.require_owner) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        job.execute(_plan(), lambda _: None)
        assert any(stored.key.endswith(job.JOB_FILE) for stored in bucket.objects.all())
        with pytest.raises(CompileError, match=r"sending code to .* failed"):
            job.execute(_plan(bucket_owner="999999999999"), lambda _: None)


def test_a_job_works_where_there_is_most_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ: dict[str, str] = {}
    job_entrypoint.choose_work_folder((tmp_path / "first", tmp_path / "second", Path("/proc/work")), environ)
    assert environ == {
        "INF2KIT_HOME": str(tmp_path / "first"),
        "HF_HOME": str(tmp_path / "first/hub"),
        "NEURON_COMPILE_CACHE_URL": str(tmp_path / "first/neuron-compile-cache"),
    }
    assert "/proc/work: 0.0 GB free" in capsys.readouterr().out


def test_folders_on_one_disk_share_its_room(tmp_path: Path) -> None:
    free = disk_space.free_bytes(tmp_path)
    disk_space.check_room({tmp_path / "a": free // 4, tmp_path / "b": free // 4})
    with pytest.raises(CompileError, match=r"a has .* GB free and compiling writes .* GB there; make room"):
        disk_space.check_room({tmp_path / "a": free // 4 * 3, tmp_path / "b": free // 4 * 3})


def test_where_a_log_may_not_be_read_the_states_are_told(
    aws: str, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan()
    boto3.client("sagemaker").create_processing_job(**plan.request)
    progress: list[str] = []
    with strict_s3.strict_proxy(aws, targets=("Logs_20140328.FilterLogEvents",)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        with pytest.raises(CompileError, match="did not say where its package is"):
            job_progress.follow(plan.name, progress.append, "us-east-1", poll_s=0.05)
    assert progress == [
        f"your credentials do not allow logs:FilterLogEvents on {job_progress.LOG_GROUP}: states only",
        "the job is Completed",
    ]


def test_a_job_of_ones_own_network_and_key_is_one_that_aws_takes(bucket: Any) -> None:
    plan = _plan(volume_kms_key="arn:aws:kms:us-east-1:123456789012:key/x", **NETWORK)
    boto3.client("sagemaker").create_processing_job(**plan.request)
    cluster = plan.request["ProcessingResources"]["ClusterConfig"]
    assert cluster["VolumeKmsKeyId"].endswith("key/x")
    assert plan.request["NetworkConfig"]["VpcConfig"] == {
        "Subnets": ["subnet-1"],
        "SecurityGroupIds": ["sg-1"],
    }
    with pytest.raises(CompileError, match="needs both: --subnet and --security-group"):
        _plan(subnets=["subnet-1"])


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("us-east-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-isof-south-1", "csp.hci.ic.gov"),
    ],
)
def test_the_image_is_in_its_partitions_domain(region: str, domain: str) -> None:
    assert f".dkr.ecr.{region}.{domain}/" in image_uri(region, CompileError)


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
        (
            ["--role", ROLE, "--token-secret", "x", "--region", "cn-north-1"],
            "a job in cn-north-1 needs a role of an account there: arn:aws-cn:iam::ACCOUNT:role/NAME",
        ),
        (["--role", ROLE], "is gated: put a token of the Hugging Face hub into Secrets Manager"),
        (
            ["--role", ROLE, "--token-secret", "x", "--region", "us-esat-1"],
            "there is no registry of deep learning containers in 'us-esat-1'; did you mean",
        ),
        (["--role", ROLE, "--token-secret", "x", "--tensor-parallel-size", "5"], "must be one of 1, 2, 4"),
        (["--role", ROLE, "--token-secret", "x", "--sequence-length", "8192"], "has 4096 positions"),
        (["--role", ROLE, "--token-secret", "x", "--push-to-hub", "a/b"], "a job pushes nothing to the hub"),
        (["--role", ROLE, "--model", "/"], "is a folder on this machine, which a job cannot read"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: list[str], sentence: str, aws: str) -> None:
    output = _command("llama2-7b-budget", "--output", "s3://models/m", "--job", *arguments)
    assert sentence in output


def test_an_instance_that_processing_does_not_have_is_refused(tmp_path: Path, aws: str) -> None:
    text = (Path(inf2kit.__file__).parent / "presets" / "tinyllama-1.1b-starter.toml").read_text(
        encoding="utf-8"
    )
    own = tmp_path / "own.toml"
    own.write_text(text.replace("ml.m5.2xlarge", "ml.inf2.xlarge"), encoding="utf-8")
    arguments = ["--output", "s3://models/m", "--job", "--role", ROLE]
    assert "SageMaker Processing has no instance 'ml.inf2.xlarge'" in _command(str(own), *arguments)
    assert "--output: 'elsewhere' is a folder of this machine; give s3://BUCKET/PREFIX" in _command(
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
    output = _command("llama2-7b-budget", "--output", str(tmp_path / "out"))
    assert "neuronx-cc and optimum-neuron cannot be found on this machine" in output
    assert "add --job" in output
    (tmp_path / "file").write_text("x", encoding="utf-8")
    output = _command("llama2-7b-budget", "--output", str(tmp_path / "file" / "out"))
    assert "cannot be written to" in output


def test_the_registries_are_those_of_cdk() -> None:
    code = (
        "from aws_cdk import region_info as r; import json; "
        "print(json.dumps({i.name: i.dlc_repository_account for i in r.RegionInfo.regions "
        "if i.dlc_repository_account}))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout) == dict(catalog.image().registries)
