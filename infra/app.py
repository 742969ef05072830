"""The app: a stack for each preset, and one for the role of compilation jobs if it is asked for.

cdk ls
cdk deploy inf2-llama2-7b-throughput -c package=s3://BUCKET/PREFIX/DIGEST/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from inf2kit.cdk import compile_role
from inf2kit.cdk.compile_role import CompileRoleStack
from inf2kit.cdk.stack import EndpointStack, UnusableStack, check_registry
from inf2kit.errors import DeploymentError
from infra.context import Context

#: Where a message came from, in paths of this run: it would make every synth another one.
_CONTEXT = {"aws:cdk:disable-stack-trace": True}


def build(context: Mapping[str, Any] | None = None, *, region: str | None = None, **options: Any) -> cdk.App:
    """The app, with its stacks.

    Args:
        context: Instead of what ``cdk`` passes on.
        region: Where ``cdk`` would deploy, if it knows. The stacks themselves are for any region.
        **options: What ``cdk.App`` takes, such as ``outdir``.

    Raises:
        Inf2KitError: the context cannot be meant.
    """
    app = cdk.App(context={**_CONTEXT, **(context or {})}, **options)
    settings = Context.read(app.node.get_all_context())
    for preset in settings.presets:
        name = settings.stack_name(preset)
        try:
            if region:
                check_registry(region)
            EndpointStack(app, name, props=settings.props(preset))
        except DeploymentError as error:
            UnusableStack(app, name, reason=str(error))
    if settings.compile_role is not None:
        CompileRoleStack(app, compile_role.NAME, props=settings.compile_role)
    return app
