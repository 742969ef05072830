"""Which CloudFormation stack a resource belongs to: a stack does not notice what others do to it."""

from __future__ import annotations

from typing import Any

#: Statuses of resources that a stack has let go of.
_LET_GO = ("DELETE_COMPLETE", "DELETE_SKIPPED")


def find_stack(cloudformation: Any, physical_id: str) -> str | None:
    """Return the name of the stack that a resource belongs to, or None if it belongs to none.

    CloudFormation is asked, as it tags models with their stack, and no endpoints: their schema has
    ``cloudFormationSystemTags: false``.

    Args:
        cloudformation: A boto3 client of CloudFormation.
        physical_id: The resource's physical id, which is the ARN of an endpoint.

    Raises:
        botocore.exceptions.ClientError: CloudFormation refuses.
    """
    from botocore.exceptions import ClientError

    try:
        answer = cloudformation.describe_stack_resources(PhysicalResourceId=physical_id)
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    for resource in answer["StackResources"]:
        if resource.get("PhysicalResourceId") == physical_id and resource["ResourceStatus"] not in _LET_GO:
            return str(resource["StackName"])
    return None
