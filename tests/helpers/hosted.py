"""Models and endpoints in the rehearsal cloud, as plain boto3 users make them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from tests.helpers.support import wait_until

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference-neuronx:x"
ROLE = "arn:aws:iam::123456789012:role/execution"


TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def allowing(*statements: tuple[list[str], str], **conditions: Any) -> str:
    """A policy that allows actions on resources."""
    listed = [
        {"Effect": "Allow", "Action": actions, "Resource": resource, **conditions}
        for actions, resource in statements
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": listed})


def execution_role(iam: Any, name: str = "execution", policy: str = "") -> str:
    """A role that SageMaker may assume, with all of S3 unless a policy says less; its ARN."""
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    policy = policy or allowing((["s3:GetObject", "s3:ListBucket", "s3:PutObject"], "*"))
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


class Maker:
    """Makes models and endpoints as plain boto3 users do, and deletes them.

    The role ``ROLE`` must be there.
    """

    def __init__(self, sagemaker: Any, uri: str, variables: dict[str, str]) -> None:
        self.sagemaker, self.uri, self._variables = sagemaker, uri, variables
        self._made: list[tuple[str, str]] = []

    def model(self, name: str, *, role: str = ROLE, **variables: str) -> dict[str, Any]:
        source = {"S3Uri": self.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
        answer: dict[str, Any] = self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=role,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataSource": {"S3DataSource": source},
                "Environment": {**self._variables, **variables},
            },
        )
        self._made.append(("model", name))
        return answer

    def config(
        self, name: str, model: str, *, asynchronous: dict[str, Any] | None = None, **variant: Any
    ) -> None:
        variants = [
            {
                "VariantName": "main",
                "ModelName": model,
                "InstanceType": "ml.inf2.xlarge",
                "InitialInstanceCount": 1,
                **variant,
            }
        ]
        more = {"AsyncInferenceConfig": asynchronous} if asynchronous else {}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        self._made.append(("endpoint_config", name))

    def endpoint(self, name: str, config: str, **more: Any) -> None:
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)
        self._made.append(("endpoint", name))

    def settled(self, name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        found: dict[str, Any] = wait_until(look, 120, f"{name} has settled")
        return found

    def clear(self) -> None:
        keys = {"model": "ModelName", "endpoint_config": "EndpointConfigName", "endpoint": "EndpointName"}
        for kind, name in reversed(self._made):
            getattr(self.sagemaker, f"delete_{kind}")(**{keys[kind]: name})
        wait_until(lambda: not self.sagemaker.list_endpoints()["Endpoints"], 60, "the endpoints are gone")
