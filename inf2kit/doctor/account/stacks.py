"""CDK's bootstrap, and the states of inf2kit's stacks."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit.doctor.finding import Finding, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.inventory.stacks import list_stacks

#: Where 'cdk bootstrap' writes its version, with CDK's default qualifier.
_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
#: What aws-cdk-lib's default synthesizer requires of a stack.
_OLDEST_BOOTSTRAP = 6


def bootstrap(surroundings: Surroundings) -> Iterator[Finding]:
    """Whether the account is bootstrapped in this region, and for today's CDK."""
    account, region = surroundings.account, surroundings.region
    command = f"cdk bootstrap aws://{account.id}/{region}"
    complain = problem if surroundings.is_deployment else advice
    ssm = surroundings.client("ssm")
    try:
        value = ssm.get_parameter(Name=_PARAMETER)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        yield complain(
            f"account {account.id} is not bootstrapped in {region}", "cdk deploy needs it", command
        )
        return
    version = int(value) if value.isdigit() else 0
    if version < _OLDEST_BOOTSTRAP:
        text = f"version {value}, and cdk needs {_OLDEST_BOOTSTRAP} or newer"
        yield complain(text, "bootstrap again; nothing is lost", command)
    else:
        yield ok(f"version {version} in {region}")


def states(surroundings: Surroundings) -> Iterator[Finding]:
    """Stacks of inf2kit that failed, and the others."""
    _ = surroundings.account
    stacks = list_stacks(surroundings.client("cloudformation"))
    sound = [stack.name for stack in stacks if not _needs_attention(stack.status)]
    for stack in stacks:
        if not _needs_attention(stack.status):
            continue
        text = f"{stack.name} is {stack.status}" + (f": {stack.reason}" if stack.reason else "")
        if stack.status == "UPDATE_ROLLBACK_FAILED":
            hint = "it takes no update before its rollback has ended"
            command = f"aws cloudformation continue-update-rollback --stack-name {stack.name} --region "
            yield problem(text, hint, command + surroundings.region)
        else:
            hint = "it takes no update; destroy it, and deploy again"
            yield advice(text, hint, f"cdk destroy {stack.name}")
    if sound or not stacks:
        yield ok(", ".join(sound) or "none yet")


def _needs_attention(status: str) -> bool:
    """Whether a status is one that takes no update, or a failure that somebody must look at."""
    return status == "ROLLBACK_COMPLETE" or status.endswith("_FAILED")
