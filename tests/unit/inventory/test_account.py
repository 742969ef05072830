"""What is listed of an account: compilation jobs, and what may not be listed. A double stands in for AWS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inf2kit import aws
from inf2kit.inventory import CleanupPlan, Outcome, Resource, delete, plan_cleanup, scan_account
from inf2kit.names import PRESET_TAG
from tests.helpers.aws_double import AwsDouble, Refusal

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:"
CREATED = 1_790_000_000.0
TAGGED = {"Tags": [{"Key": PRESET_TAG, "Value": "llama2-7b-budget"}]}
JOB = {
    "ProcessingJobName": "inf2kit-llama",
    "ProcessingJobArn": f"{ARN}processing-job/inf2kit-llama",
    "ProcessingJobStatus": "InProgress",
    "CreationTime": CREATED,
}
EMPTY = {
    "ListEndpoints": {"Endpoints": []},
    "ListProcessingJobs": {"ProcessingJobSummaries": []},
    "ListEndpointConfigs": {"EndpointConfigs": []},
    "ListModels": {"Models": []},
    "GetParametersByPath": {"Parameters": []},
    "DescribeLogGroups": {"logGroups": []},
}
Client = Callable[..., Any]


@pytest.fixture(scope="module")
def _server() -> Iterator[AwsDouble]:
    with AwsDouble().serving() as server:
        yield server


@pytest.fixture(scope="module")
def client(_server: AwsDouble) -> Client:
    """Makes clients of the double; each service's description is read once."""
    session = aws.local_session(region_name="eu-west-1")
    return functools.cache(
        lambda service: aws.client(
            service, session=session, endpoint_url=_server.url, retries={"total_max_attempts": 1}
        )
    )


@pytest.fixture
def double(_server: AwsDouble) -> AwsDouble:
    """An account where nothing exists, and whose stacks may not be listed."""
    _server.answers = dict(EMPTY)
    return _server


def test_a_compilation_job_is_listed_and_stopped(double: AwsDouble, client: Client) -> None:
    foreign = {**JOB, "ProcessingJobName": "theirs", "ProcessingJobArn": f"{ARN}processing-job/theirs"}
    double.answers |= {
        "ListProcessingJobs": {"ProcessingJobSummaries": [JOB, foreign]},
        "ListTags": lambda request: TAGGED if "inf2kit" in request["ResourceArn"] else {"Tags": []},
        "StopProcessingJob": {},
    }
    inventory = scan_account(client, "eu-west-1")
    (job,) = inventory.resources
    assert (job.label, job.bills, job.cost) == ("compilation job inf2kit-llama", True, "not known")
    assert inventory.failures == (
        "listing stacks in eu-west-1 failed: refused by the double (AccessDenied); your credentials do not "
        "allow it",
    )
    plan = plan_cleanup(inventory)
    assert plan.deletions == ()
    assert plan.retained[0].reason == "may belong to a stack: the stacks could not be listed"
    (outcome,) = delete(CleanupPlan((job,), ()), client)
    assert outcome.error == ""
    assert double.requests[-1] == ("StopProcessingJob", {"ProcessingJobName": "inf2kit-llama"})


def test_a_resource_that_is_gone_meanwhile_is_no_failure(double: AwsDouble, client: Client) -> None:
    double.answers |= {
        "ListModels": {"Models": [{"ModelName": "m", "ModelArn": f"{ARN}model/m", "CreationTime": CREATED}]},
        "ListTags": Refusal("ValidationException", 'Could not find model "m".'),
    }
    assert scan_account(client, "eu-west-1").resources == ()


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("ListEndpoints", "endpoints"),
        ("ListProcessingJobs", "compilation jobs"),
        ("ListEndpointConfigs", "endpoint configurations"),
        ("ListModels", "models"),
        ("GetParametersByPath", "parameters"),
        ("DescribeLogGroups", "log groups"),
    ],
)
def test_what_may_not_be_listed_is_said(double: AwsDouble, client: Client, operation: str, what: str) -> None:
    del double.answers[operation]
    inventory = scan_account(client, "eu-west-1")
    assert inventory.unlisted == {"stacks", what}
    assert any(sentence.startswith(f"listing {what} in eu-west-1 failed") for sentence in inventory.failures)


def test_an_endpoint_is_deleted_once_it_has_settled(double: AwsDouble, client: Client) -> None:
    refusals = [Refusal("ValidationException", 'Cannot update in-progress endpoint "e".')]
    double.answers |= {
        "DeleteEndpoint": lambda _: refusals.pop() if refusals else {},
        "DescribeEndpoint": Refusal("ValidationException", 'Could not find endpoint "e".'),
    }
    endpoint = Resource("endpoint", "e", f"{ARN}endpoint/e")
    steps: list[str] = []
    assert list(delete(CleanupPlan((endpoint,), ()), client, steps.append)) == [Outcome(endpoint)]
    assert steps == [
        "waiting until e has settled: SageMaker does not delete it before",
        "waiting until the endpoint e is gone",
    ]


def test_a_refused_deletion_keeps_the_others_going(double: AwsDouble, client: Client) -> None:
    endpoint = {"EndpointName": "e", "EndpointArn": f"{ARN}endpoint/e", "EndpointStatus": "InService"}
    double.answers |= {
        "ListEndpoints": {"Endpoints": [{**endpoint, "CreationTime": CREATED, "LastModifiedTime": CREATED}]},
        "DescribeEndpoint": {**endpoint, "EndpointConfigName": "c", "CreationTime": CREATED},
        "DescribeEndpointConfig": {
            "ProductionVariants": [
                {"VariantName": "main", "ModelName": "m", "InstanceType": "ml.inf2.xlarge"}
            ]
        },
        "ListModels": {"Models": [{"ModelName": "m", "ModelArn": f"{ARN}model/m", "CreationTime": CREATED}]},
        "DescribeModel": {"ExecutionRoleArn": "arn:aws:iam::123456789012:role/r"},
        "ListTags": TAGGED,
        "DescribeLogGroups": {
            "logGroups": [{"logGroupName": "/aws/sagemaker/Endpoints/e", "arn": "arn:aws:logs:x:*"}]
        },
        "ListTagsForResource": {"tags": {PRESET_TAG: "llama2-7b-budget"}},
        "DeleteLogGroup": {},
    }
    inventory = scan_account(client, "eu-west-1")
    assert [(resource.kind, resource.cost) for resource in inventory.resources] == [
        ("endpoint", "$0.91/h"),
        ("model", "-"),
        ("log group", "-"),
    ]
    outcomes = list(delete(CleanupPlan(inventory.resources, ()), client))
    assert [outcome.error.partition(" failed")[0] for outcome in outcomes] == [
        "deleting the endpoint e",
        "model m stays, as the endpoint e uses it",
        "",
    ]
