"""Create roles, models and endpoints in the rehearsal cloud with plain boto3."""

from __future__ import annotations

import contextlib
import json
from contextlib import ExitStack
from typing import Any

from botocore.exceptions import ClientError

from tests.helpers.servers import wait_until

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-inference-neuronx:x"
ROLE = "arn:aws:iam::123456789012:role/execution"
#: Lets SageMaker assume a role.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def allow_policy(*statements: tuple[list[str], str], **conditions: Any) -> str:
    """Return a policy that allows actions on resources."""
    allowed = [
        {"Effect": "Allow", "Action": actions, "Resource": resource, **conditions}
        for actions, resource in statements
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": allowed})


def create_role(iam: Any, name: str = "execution", policy: str = "") -> str:
    """Create a role that SageMaker may assume, and return its ARN.

    The default policy allows reading and writing all of S3.
    """
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    policy = policy or allow_policy((["s3:GetObject", "s3:ListBucket", "s3:PutObject"], "*"))
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def delete_endpoint(sagemaker: Any, name: str) -> None:
    """Delete an endpoint as soon as SageMaker lets it be deleted, and wait until it is gone."""

    def is_being_deleted() -> bool:
        try:
            sagemaker.delete_endpoint(EndpointName=name)
        except ClientError as error:
            if "in-progress endpoint" in str(error):
                return False
            raise
        return True

    wait_until(is_being_deleted, f"{name} can be deleted")

    def is_gone() -> bool:
        endpoints = sagemaker.list_endpoints(NameContains=name)["Endpoints"]
        return name not in [endpoint["EndpointName"] for endpoint in endpoints]

    wait_until(is_gone, f"{name} is gone")


class ResourceMaker:
    """Create models and endpoints as a plain boto3 user does, and delete them.

    The role ``ROLE`` must exist.
    """

    def __init__(self, sagemaker: Any, uri: str, variables: dict[str, str]) -> None:
        self.sagemaker, self.uri, self._variables = sagemaker, uri, variables
        self._created = ExitStack()

    def create_model(self, name: str, *, role: str = ROLE, **variables: str) -> dict[str, Any]:
        source = {"S3Uri": self.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
        response: dict[str, Any] = self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=role,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataSource": {"S3DataSource": source},
                "Environment": {**self._variables, **variables},
            },
        )
        self._created.callback(self.sagemaker.delete_model, ModelName=name)
        return response

    def create_config(
        self,
        name: str,
        model: str,
        *,
        asynchronous: dict[str, Any] | None = None,
        capture: dict[str, Any] | None = None,
        **variant: Any,
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
        options = {"AsyncInferenceConfig": asynchronous, "DataCaptureConfig": capture}
        more = {key: value for key, value in options.items() if value}
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        self._created.callback(self.sagemaker.delete_endpoint_config, EndpointConfigName=name)

    def create_endpoint(self, name: str, config: str, **more: Any) -> None:
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config, **more)
        self._created.callback(delete_endpoint, self.sagemaker, name)

    def wait_until_settled(self, name: str) -> dict[str, Any]:
        """Wait until an endpoint is in service or has failed, and return its description."""

        def describe() -> dict[str, Any]:
            endpoint: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
            return endpoint if endpoint["EndpointStatus"] in ("InService", "Failed") else {}

        return wait_until(describe, f"{name} has settled")

    def forget_all(self) -> None:
        """Delete nothing at the end: everything is deleted already."""
        self._created.pop_all()

    def delete_all(self) -> None:
        """Delete everything that was created here, the newest first; what fails keeps nothing else."""
        self._created.close()
