"""``inf2kit doctor`` and ``inf2kit cleanup`` against the rehearsal cloud, with each fault that they name.

Quotas, prices and images are answered by a double: this rehearsal cloud has none.
``test_quotas`` has one with quotas.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from inf2kit import catalog, load_preset
from inf2kit.aws import default_profile
from inf2kit.cli.commands import main
from inf2kit.doctor import Finding, Report, Status, Surroundings, examine
from inf2kit.doctor.checks import ACCOUNT, CHECKS
from inf2kit.names import PRESET_TAG
from tests.helpers.aws_double import AwsDouble, Refusal
from tests.helpers.cloudformation import IMPOSSIBLE, StackMaker, list_log_groups, log_group, parameter
from tests.helpers.sagemaker import ROLE, ResourceMaker
from tests.helpers.servers import wait_until

PRESET = "llama2-7b-budget"
INSTANCE = load_preset(PRESET).compute.instance_type
QUOTA = f"{INSTANCE} for endpoint usage"
CODE = catalog.quotas()[INSTANCE]
TAGS = [{"Key": PRESET_TAG, "Value": PRESET}]
PROBLEM, ADVICE, NOT_CHECKED, OK = Status.PROBLEM, Status.ADVICE, Status.NOT_CHECKED, Status.OK


@pytest.fixture
def double(aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    """The double of quotas, prices and registries: a region where everything is right."""
    answers = {
        "GetServiceQuota": {"Quota": {"QuotaName": QUOTA, "QuotaCode": CODE, "Value": 4.0}},
        "ListRequestedServiceQuotaChangeHistoryByQuota": {"RequestedQuotas": []},
        "GetProducts": {"PriceList": [_hosting_price()]},
        "BatchGetImage": {"images": [{"imageId": {"imageTag": catalog.image().tag}}], "failures": []},
    }
    with AwsDouble(answers=dict(answers)).serving() as server:
        for service in ("SERVICE_QUOTAS", "PRICING", "ECR"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
        yield server


def _hosting_price() -> str:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.99"}}
    return json.dumps(
        {
            "product": {"attributes": {"instanceName": INSTANCE, "component": "Hosting"}},
            "terms": {"OnDemand": {"x": {"priceDimensions": {"y": dimension}}}},
        }
    )


def surroundings_of(preset: str | None = PRESET, region: str = "us-east-1", **options: Any) -> Surroundings:
    return Surroundings(preset=load_preset(preset) if preset else None, region=region, **options)


def look(*names: str, surroundings: Surroundings | None = None, **options: Any) -> Report:
    """Run checks by name. Surroundings that are passed on keep their clients, which take long to make."""
    checks = [check for check in CHECKS if check.name in names]
    return examine(surroundings or surroundings_of(**options), checks=checks)


def look_at(name: str, **options: Any) -> Finding:
    """Run one check that has one finding."""
    (finding,) = look(name, **options).findings
    return finding


def test_without_credentials(
    aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    finding = look_at("identity")
    assert (finding.status, finding.reason) == (PROBLEM, "no AWS credentials were found")
    assert look_at("identity", preset=None).status is NOT_CHECKED, "rehearsals need no account"
    account = {check.name for check in CHECKS if check.group == ACCOUNT} - {"identity", "region"}
    others = look(*account).findings
    assert {(other.status, other.reason) for other in others} == {(NOT_CHECKED, "AWS cannot be called")}
    assert "endpoints were not looked up (AWS cannot be called)" in look_at("region").reason


def test_a_profile_that_is_not_there(aws: Callable[..., Any]) -> None:
    with default_profile("nobody"):
        report = examine(
            Surroundings(),
            checks=[check for check in CHECKS if check.name in ("identity", "region", "prices")],
        )
    identity, region, prices = report.findings
    assert "there is no profile 'nobody'" in identity.reason
    assert (region.reason, prices.status) == ("AWS cannot be called", OK)


def test_credentials_that_are_refused_or_end(
    aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look_at("identity").reason.startswith("account 123456789012, arn:aws:")
    assert look_at("credentials").reason == "they do not expire"

    def expire_in(minutes: int) -> None:
        end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=minutes)
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", end.isoformat())
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    expire_in(40)
    assert look_at("credentials").status is ADVICE
    expire_in(400)
    assert look_at("credentials").status is OK
    expire_in(-5)
    finding = look_at("identity")
    assert finding.status is PROBLEM
    assert finding.hint == "log in again, or correct the credentials of your AWS profile"
    monkeypatch.delenv("AWS_CREDENTIAL_EXPIRATION")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHER")
    finding = look_at("identity")
    assert finding.status is PROBLEM
    assert "InvalidClientTokenId" in finding.hint


def test_regions(double: AwsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look_at("region").reason == f"us-east-1 sells {INSTANCE} as endpoints"
    (sold, no_route) = look("region", region="eu-north-1").findings
    assert (sold.status, no_route.status) == (OK, ADVICE)
    assert "no OpenAI-compatible route" in no_route.reason
    double.answers["GetProducts"] = {"PriceList": []}
    assert look_at("region").status is PROBLEM
    assert look_at("region").reason == f"us-east-1 does not sell {INSTANCE} as endpoints"
    del double.answers["GetProducts"]
    assert look_at("region", region="ca-central-1").status is ADVICE, "by EC2's list"
    assert "AccessDenied" in look_at("region").reason
    nowhere = look_at("region", region="mx-central-1")
    misspelt = look_at("region", region="us-esat-1")
    assert misspelt.reason.endswith("learning containers; did you mean 'us-east-1'?")
    assert nowhere.reason == "mx-central-1 has no registry of AWS's deep learning containers"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    (finding,) = examine(
        Surroundings(preset=load_preset(PRESET)), checks=[check for check in CHECKS if check.name == "region"]
    ).findings
    assert (finding.status, finding.reason) == (PROBLEM, "no region is configured")


def test_quotas(double: AwsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = surroundings_of()
    assert look_at("quota", surroundings=shared).reason == f"{QUOTA}: 0 of 4 used"
    double.answers["GetServiceQuota"] = {"Quota": {"QuotaName": QUOTA, "QuotaCode": CODE, "Value": 0.0}}
    none = look_at("quota", surroundings=shared)
    assert (none.status, none.reason) == (PROBLEM, f"{QUOTA}: 0 of 0 used")
    assert none.command == (
        "aws service-quotas request-service-quota-increase --service-code sagemaker "
        f"--quota-code {CODE} --desired-value 1 --region us-east-1"
    )
    pending = {"RequestedQuotas": [{"Status": "CASE_OPENED", "DesiredValue": 2.0}]}
    double.answers["ListRequestedServiceQuotaChangeHistoryByQuota"] = pending
    waiting = look_at("quota", surroundings=shared)
    assert waiting.status is ADVICE
    assert waiting.reason.endswith("an increase to 2 is requested")
    double.answers["ListRequestedServiceQuotaChangeHistoryByQuota"] = {"RequestedQuotas": []}
    # AWS does not document the codes: another quota of that code, and one of the name.
    double.answers["GetServiceQuota"] = {"Quota": {"QuotaName": "another", "QuotaCode": CODE, "Value": 9.0}}
    double.answers["ListServiceQuotas"] = {
        "Quotas": [{"QuotaName": QUOTA, "QuotaCode": "L-NEW", "Value": 1.0}]
    }
    renamed = look_at("quota", surroundings=shared)
    assert (renamed.status, renamed.reason) == (OK, f"{QUOTA}: 0 of 1 used")
    assert "--quota-code L-NEW" in renamed.command
    double.answers["GetServiceQuota"] = Refusal("NoSuchResourceException")
    double.answers["ListServiceQuotas"] = double.answers["ListAWSDefaultServiceQuotas"] = {"Quotas": []}
    assert look_at("quota", surroundings=shared).reason == f"us-east-1 has no quota '{QUOTA}'"
    double.answers["GetServiceQuota"] = {"Quota": {"QuotaName": QUOTA, "QuotaCode": CODE, "Value": 3.0}}
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", double.url)  # it denies to list endpoints
        unknown = look_at("quota")
    assert unknown.reason == f"{QUOTA}: 3 allowed; how many are in use could not be listed"
    del double.answers["GetServiceQuota"]
    denied = look_at("quota", surroundings=shared)
    assert (denied.status, "AccessDenied" in denied.reason) == (NOT_CHECKED, True)


def test_images(double: AwsDouble) -> None:
    shared = surroundings_of()
    assert look_at("image", surroundings=shared).status is OK
    double.answers["BatchGetImage"] = {"images": [], "failures": [{"failureCode": "ImageNotFound"}]}
    finding = look_at("image", surroundings=shared)
    assert (finding.status, finding.reason.endswith(f"{catalog.image().tag} is not there")) == (PROBLEM, True)
    double.answers["BatchGetImage"] = Refusal("RepositoryNotFoundException")
    assert look_at("image", surroundings=shared).reason.startswith("us-east-1 has no repository")
    del double.answers["BatchGetImage"]
    assert look_at("image", surroundings=shared).status is NOT_CHECKED


def test_what_the_rehearsal_has_none_of_is_said(aws: Callable[..., Any]) -> None:
    for name, service in (("quota", "quotas"), ("image", "ecr")):
        finding = look_at(name)
        assert finding.status is NOT_CHECKED
        assert finding.reason.endswith(f"stands in for AWS and has no {service}")


def test_bootstrap(aws: Callable[..., Any]) -> None:
    # Other tests bootstrap the cloud's own region.
    region, name = "eu-west-1", "/cdk-bootstrap/hnb659fds/version"
    shared = surroundings_of(region=region)
    missing = look_at("bootstrap", surroundings=shared)
    assert (missing.status, missing.command) == (PROBLEM, "cdk bootstrap aws://123456789012/eu-west-1")
    ssm = boto3.session.Session(region_name=region).client("ssm")
    for value, status in (("3", PROBLEM), ("33", OK)):
        ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
        assert look_at("bootstrap", surroundings=shared).status is status
    ssm.delete_parameter(Name=name)


def test_stacks(stacks: StackMaker, aws: Callable[..., Any]) -> None:
    stacks.create("inf2-failed", {"Impossible": IMPOSSIBLE}, Tags=TAGS)
    findings = [finding for finding in look("stacks").findings if finding.reason.startswith("inf2-failed")]
    assert [(finding.status, finding.command) for finding in findings] == [
        (ADVICE, "cdk destroy inf2-failed")
    ]
    assert "ROLLBACK_COMPLETE" in findings[0].reason


def test_buckets(aws: Callable[..., Any]) -> None:
    s3 = aws("s3")
    missing = look_at("bucket", packages="s3://nobody/x")
    assert (missing.status, missing.reason) == (PROBLEM, "there is no bucket nobody")
    wrong = look_at("bucket", packages="s3:/x")
    assert (wrong.status, wrong.check) == (PROBLEM, "bucket")
    s3.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert look_at("bucket", packages="s3://far/x").reason.startswith("far is in eu-west-1, and endpoints in")
    s3.create_bucket(Bucket="open")
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}
    deny = {
        **allow,
        "Effect": "Deny",
        "Action": "s3:PutObject",
        "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}},
    }
    s3.put_bucket_policy(Bucket="open", Policy=json.dumps({"Statement": [allow, deny]}))
    encrypted, opened = look("bucket", packages="s3://open/x").findings
    assert (encrypted.status, "--sse aws:kms" in encrypted.hint) == (OK, True)
    assert (opened.status, opened.reason) == (ADVICE, "the policy of open lets in *")
    for name in ("far", "open"):
        s3.delete_bucket(Bucket=name)


def test_roles(aws: Callable[..., Any]) -> None:
    iam = aws("iam")
    assert look_at("role", role=ROLE).status is OK
    assert look_at("role", role="execution").reason == "'execution' is not the ARN of a role"
    assert look_at("role", role=f"{ROLE}-2").reason == "there is no role execution-2"
    lambdas = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    arn = iam.create_role(RoleName="lambdas", AssumeRolePolicyDocument=json.dumps({"Statement": lambdas}))[
        "Role"
    ]["Arn"]
    finding = look_at("role", role=arn)
    assert (finding.status, finding.reason) == (PROBLEM, "SageMaker may not assume lambdas")
    assert finding.command.startswith("aws iam update-assume-role-policy --role-name lambdas")
    iam.delete_role(RoleName="lambdas")


@pytest.fixture
def deployed(maker: ResourceMaker, aws: Callable[..., Any]) -> Any:
    """An endpoint that is tagged as inf2kit's, and belongs to no stack; it need not come into service."""
    sagemaker = maker.sagemaker
    model = maker.create_model("own")["ModelArn"]
    maker.create_config("own", "own", InstanceType=INSTANCE)
    config = sagemaker.describe_endpoint_config(EndpointConfigName="own")["EndpointConfigArn"]
    for arn in (model, config):
        sagemaker.add_tags(ResourceArn=arn, Tags=TAGS)
    maker.create_endpoint("own", "own", Tags=TAGS)
    return sagemaker


def test_what_bills_is_named_and_cleaned_up(
    deployed: Any,
    maker: ResourceMaker,
    stacks: StackMaker,
    aws: Callable[..., Any],
    double: AwsDouble,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # The clean-up of a home removes the rehearsal cloud too, and this one is shared.
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    logs, ssm = aws("logs"), aws("ssm")
    groups = {name: f"/aws/sagemaker/Endpoints/{name}" for name in ("own", "earlier", "foreign", "stacked")}
    logs.create_log_group(logGroupName=groups["earlier"], tags={PRESET_TAG: PRESET})
    logs.create_log_group(logGroupName=groups["foreign"])
    wait_until(
        lambda: logs.describe_log_groups(logGroupNamePrefix=groups["own"])["logGroups"],
        "the endpoint's log group",
    )
    tagged = {"Tags": TAGS, "Type": "String"}
    ssm.put_parameter(Name="/inf2kit/presets/own", Value="{}", **tagged)
    owned = log_group(groups["stacked"])
    owned["Properties"]["Tags"] = TAGS
    resources = {"Log": owned, "Other": parameter("/other", "x")}
    assert stacks.create("inf2-stacked", resources, Tags=TAGS) == "CREATE_COMPLETE"

    runs, total = look("what bills").findings
    assert (runs.status, runs.command) == (ADVICE, "inf2kit cleanup --region us-east-1")
    assert f"1 x {INSTANCE}, $2.36/h" in runs.reason
    assert total.reason.startswith("together $2.36 an hour")
    assert "1 of 4 used" in look_at("quota").reason

    def clean(*options: str) -> str:
        ended = CliRunner().invoke(main, ["cleanup", "--region", "us-east-1", *options])
        assert ended.exit_code == 0, ended.output
        return ended.output

    listing = "\n".join(" ".join(line.split()) for line in clean("--dry-run").splitlines())
    for line in (
        "endpoint own",
        f"1 x {INSTANCE} $2.36/h",
        "model own",
        "parameter /inf2kit/presets/own",
        "stays: belongs to the stack inf2-stacked",
        "run: cdk destroy inf2-stacked",
        "stays: has no tag of inf2kit: SageMaker made it",
        f"run: aws logs delete-log-group --region us-east-1 --log-group-name {groups['own']}",
        "packages in s3://models/llm stay",
    ):
        assert line in listing, listing
    assert "foreign" not in listing
    assert deployed.describe_endpoint(EndpointName="own")["EndpointStatus"] != "Deleting"
    output = clean("--yes")
    assert output.index("deleted endpoint own") < output.index("deleted endpoint configuration own")
    assert output.index("deleted model own") < output.index(f"deleted log group {groups['earlier']}")
    maker.forget_all()
    names = list_log_groups(logs)
    assert {groups["foreign"], groups["stacked"], groups["own"]} <= names, (
        "they have no tag, or are a stack's"
    )
    assert groups["earlier"] not in names
    assert deployed.list_endpoints()["Endpoints"] == []
    assert "deleted" not in clean("--yes")
    new = "packages in s3://models/llm that nothing uses, but younger than an hour, stay: "
    assert new in clean("--dry-run", "--packages", "s3://models/llm")
    assert look_at("what bills").reason.startswith("nothing of inf2kit bills in us-east-1")
    for name in ("foreign", "own"):
        logs.delete_log_group(logGroupName=groups[name])


def test_the_whole_report(double: AwsDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = CliRunner().invoke(main, ["doctor", PRESET, "--json", "--role", "nobody"])
    assert ended.exit_code == 1, "by the worst"
    report = json.loads(ended.stdout)
    assert report["worst"] == "problem"
    names = [finding["check"] for finding in report["findings"]]
    assert list(dict.fromkeys(names)) == [check.name for check in CHECKS]


def test_nobody_to_ask_deletes_nothing(
    aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    aws("ssm").put_parameter(Name="/inf2kit/presets/asked", Value="{}", Type="String", Tags=TAGS)
    command = ["cleanup", "--region", "us-east-1"]
    assert "there is nobody to ask" in CliRunner().invoke(main, command).output
    CliRunner().invoke(main, command, input="n\n")
    names = aws("ssm").get_parameters_by_path(Path="/inf2kit/presets", Recursive=True)["Parameters"]
    assert "/inf2kit/presets/asked" in {parameter["Name"] for parameter in names}
    aws("ssm").delete_parameter(Name="/inf2kit/presets/asked")


def test_a_clean_up_without_aws(
    aws: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHER")
    refused = CliRunner().invoke(main, ["cleanup", "--yes"])
    assert refused.exit_code == 1
    assert "clean up this machine alone with --local" in refused.output
    assert CliRunner().invoke(main, ["cleanup", "--local"]).output == "nothing to delete\n"
