"""The execution role: whether SageMaker may assume it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from inf2kit.doctor.finding import Finding, NotCheckedError, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.inventory.stacks import list_stacks
from inf2kit.names import COMPILE_ROLE_STACK
from inf2kit.package.stores.bucket import as_list

_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/(?:.*/)?([\w+=,.@-]+)")
_SAGEMAKER = re.compile(r"sagemaker\.amazonaws\.com(\.cn)?")


def trust(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at --role, or at the roles of inf2kit's models and of its compilation jobs."""
    _ = surroundings.account
    arns = [surroundings.role] if surroundings.role else _roles_in_use(surroundings)
    if not arns:
        raise NotCheckedError(
            "no model of inf2kit has one yet; the stack makes its own, and --role ARN looks at another"
        )
    for arn in dict.fromkeys(arns):
        yield from _look(surroundings, arn)


def _roles_in_use(surroundings: Surroundings) -> list[str]:
    stacks = list_stacks(surroundings.client("cloudformation"))
    outputs = [stack.outputs for stack in stacks if stack.name == COMPILE_ROLE_STACK]
    return [
        *surroundings.inventory.roles,
        *(values["RoleArn"] for values in outputs if "RoleArn" in values),
    ]


def _look(surroundings: Surroundings, arn: str) -> Iterator[Finding]:
    match = _ROLE.fullmatch(arn)
    if match is None:
        yield problem(f"{arn!r} is not the ARN of a role", "give --role arn:aws:iam::ACCOUNT:role/NAME")
        return
    name, iam = match[1], surroundings.client("iam")
    try:
        policy = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        hint = (
            "correct --role; 'cdk deploy' makes a role of its own"
            if surroundings.role
            else "a model of inf2kit names it, whose endpoint can start no new instance"
        )
        yield problem(f"there is no role {name}", hint)
        return
    if any(_lets_sagemaker_in(statement) for statement in as_list(policy.get("Statement"))):
        yield ok(f"SageMaker may assume {name}")
        return
    document = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
        '"Principal":{"Service":"sagemaker.amazonaws.com"},"Action":"sts:AssumeRole"}]}'
    )
    yield problem(
        f"SageMaker may not assume {name}",
        "its trust policy does not name sagemaker.amazonaws.com; this command replaces the policy",
        f"aws iam update-assume-role-policy --role-name {name} --policy-document '{document}'",
    )


def _lets_sagemaker_in(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = as_list(principal.get("Service")) if isinstance(principal, Mapping) else []
    actions = [str(action).lower() for action in as_list(statement.get("Action"))]
    return (
        statement.get("Effect") == "Allow"
        and any(_SAGEMAKER.fullmatch(str(service)) for service in services)
        and any(action in ("sts:assumerole", "sts:*", "*") for action in actions)
    )
