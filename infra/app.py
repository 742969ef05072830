"""What ``cdk`` runs: a stack for each preset.

cdk ls
cdk deploy inf2-llama2-7b-throughput -c package=s3://BUCKET/PREFIX/DIGEST/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from inf2kit.errors import DeploymentError, Inf2KitError
from infra.context import Context
from infra.stack import EndpointStack, UnusableStack

#: Where a message came from, in paths of this run: it would make every synth another one.
_CONTEXT = {"aws:cdk:disable-stack-trace": True}
#: The oldest CLI that reads what this library writes.
_CLI = (2, 1148, 1)


def build(context: Mapping[str, Any] | None = None, **options: Any) -> cdk.App:
    """The app, with its stacks.

    Args:
        context: Instead of what ``cdk`` passes on.
        **options: Of ``cdk.App``.

    Raises:
        Inf2KitError: the context cannot be meant.
    """
    app = cdk.App(context={**_CONTEXT, **(context or {})}, **options)
    given = Context.read(app.node.get_all_context())
    for preset in given.presets:
        name = f"inf2-{preset.endpoint_name}"
        try:
            EndpointStack(app, name, props=given.props(preset))
        except DeploymentError as error:
            UnusableStack(app, name, reason=str(error))
    return app


def check_cli(version: str | None) -> None:
    """Refuse a CLI that cannot read the assembly, before it says something that nobody understands.

    Args:
        version: As the CLI gives it; None where no CLI runs the app.

    Raises:
        DeploymentError: it is the wrong one.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:3])
    # 3.0.0 is older than 2.1148: it was published by accident.
    if numbers and (numbers[0] != _CLI[0] or numbers < _CLI):
        raise DeploymentError(
            f"this is cdk {version}, which cannot read this app; use the one that package.json pins: "
            "npm ci, then npx cdk (or 'make setup', then the cdk in .venv/bin)"
        )


def main() -> None:
    """Synthesize, or say in one sentence why not."""
    try:
        check_cli(os.environ.get("CDK_CLI_VERSION"))
        build().synth()
    except Inf2KitError as error:
        sys.exit(f"inf2kit: {error}")


if __name__ == "__main__":
    main()
