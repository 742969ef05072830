"""The app: a stack for each preset, and one for the role of compilation jobs if the context asks for it.

cdk ls
cdk deploy inf2-llama2-7b-throughput -c package=s3://BUCKET/PREFIX/DIGEST/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from inf2kit.cdk import CompileRoleStack, EndpointStack
from inf2kit.cdk.stack import PlaceholderStack, check_region
from inf2kit.errors import DeploymentError
from inf2kit.names import COMPILE_ROLE_STACK
from infra.context import Context

#: Stack traces hold paths of the checkout, which would make every machine's templates differ.
_CDK_CONTEXT = {"aws:cdk:disable-stack-trace": True}


def build_app(
    values: Mapping[str, Any] | None = None, *, region: str | None = None, **options: Any
) -> cdk.App:
    """Build the app with its stacks.

    Args:
        values: Context values, in place of those that ``cdk`` passes on.
        region: The region that ``cdk`` would deploy to, if known. The stacks can be deployed to any region.
        **options: Options of ``aws_cdk.App``, such as ``outdir``.

    Raises:
        Inf2KitError: a key or value of the context is wrong.
    """
    app = cdk.App(context={**_CDK_CONTEXT, **(values or {})}, **options)
    context = Context.parse(app.node.get_all_context())
    for preset in context.presets:
        name = context.stack_name(preset)
        try:
            if region:
                check_region(region)
            EndpointStack(app, name, props=context.endpoint_props(preset))
        except DeploymentError as error:
            PlaceholderStack(app, name, reason=str(error))
    if context.compile_role is not None:
        CompileRoleStack(app, COMPILE_ROLE_STACK, props=context.compile_role)
    return app
