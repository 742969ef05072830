"""The app: a stack for each preset.

cdk ls
cdk deploy inf2-llama2-7b-throughput -c package=s3://BUCKET/PREFIX/DIGEST/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from inf2kit.errors import DeploymentError
from infra.context import Context
from infra.stack import EndpointStack, UnusableStack

#: Where a message came from, in paths of this run: it would make every synth another one.
_CONTEXT = {"aws:cdk:disable-stack-trace": True}


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
