"""What a rehearsal cloud contains, and what of it a test has left, also one that has failed."""

from __future__ import annotations

import contextlib
from typing import Any

from botocore.exceptions import ClientError

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.cloud import boto3_client
from tests.helpers.cloudformation import StackMaker, list_log_groups
from tests.helpers.sagemaker import delete_endpoint

#: Kept for all tests: every stack of cdk needs it.
BOOTSTRAP_STACK = "CDKToolkit"


class CloudContents:
    """The stacks, endpoints, configurations, models and log groups of a cloud.

    Args:
        cloud: A cloud that runs.
    """

    def __init__(self, cloud: CloudSettings) -> None:
        self._cloudformation = boto3_client(cloud, "cloudformation")
        self._sagemaker = boto3_client(cloud, "sagemaker")
        self._logs = boto3_client(cloud, "logs")

    def list_names(self) -> set[tuple[str, str]]:
        """List everything as kind and name."""
        stacks = self._cloudformation.describe_stacks()["Stacks"]
        names = {("stack", stack["StackName"]) for stack in stacks}
        for kind, operation, key in (
            ("endpoint", "list_endpoints", "Endpoint"),
            ("endpoint_config", "list_endpoint_configs", "EndpointConfig"),
            ("model", "list_models", "Model"),
        ):
            pages = self._sagemaker.get_paginator(operation).paginate()
            names |= {(kind, item[f"{key}Name"]) for page in pages for item in page[f"{key}s"]}
        names |= {("log_group", name) for name in list_log_groups(self._logs)}
        return names - {("stack", BOOTSTRAP_STACK)}

    def delete_all_but(self, before: set[tuple[str, str]]) -> None:
        """Delete what was not there before: stacks first, since they have resources of the other kinds.

        The last are log groups: an endpoint leaves its own, also on AWS, and a stack cannot create it then.
        Some have none before their end.
        """
        for kind, name in sorted(self.list_names() - before):
            if kind == "stack":
                self._delete_stack(name)
        left = self.list_names() - before
        for kind, delete in (
            ("endpoint", lambda name: delete_endpoint(self._sagemaker, name)),
            ("endpoint_config", lambda name: self._sagemaker.delete_endpoint_config(EndpointConfigName=name)),
            ("model", lambda name: self._sagemaker.delete_model(ModelName=name)),
        ):
            for name in sorted(name for each, name in left if each == kind):
                delete(name)
        groups_before = {name for kind, name in before if kind == "log_group"}
        for name in sorted(list_log_groups(self._logs) - groups_before):
            self._logs.delete_log_group(logGroupName=name)

    def _delete_stack(self, name: str) -> None:
        """Delete a stack that may be protected, and may have a resource that cannot be deleted."""
        maker = StackMaker(self._cloudformation)
        options: tuple[dict[str, Any], ...] = ({}, {"DeletionMode": "FORCE_DELETE_STACK"})
        self._cloudformation.update_termination_protection(StackName=name, EnableTerminationProtection=False)
        for option in options:
            with contextlib.suppress(ClientError):  # the first one was enough
                stack_id = maker.describe(name)["StackId"]
                self._cloudformation.delete_stack(StackName=name, **option)
                maker.wait_until_settled(stack_id)
