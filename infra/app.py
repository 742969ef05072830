"""The app: a stack for each preset, and one for the role of compilation jobs if the context asks for it.

cdk ls
cdk deploy inf2-llama2-7b-throughput -c package=s3://BUCKET/PREFIX/DIGEST/
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk

from inf2kit.catalog.registry import registry_account
from inf2kit.cdk import CompileRoleStack, EndpointStack
from inf2kit.cdk.stack import PlaceholderStack
from inf2kit.errors import DeploymentError
from inf2kit.names import COMPILE_ROLE_STACK
from infra.context import Context

#: Stack traces hold paths of the checkout, which would make every machine's templates differ.
_CDK_CONTEXT = {"aws:cdk:disable-stack-trace": True}
_BOUNDARY = "@aws-cdk/core:permissionsBoundary"


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
    _parse_boundary(app)
    context = Context.parse(app.node.get_all_context())
    presets_of: dict[str, str] = {}
    for preset in context.presets:
        name = context.stack_name(preset)
        if app.node.try_find_child(name):
            raise DeploymentError(
                f"two presets would have the stack {name}; give {preset.name!r} another stage"
            )
        try:
            if region:
                registry_account(region, DeploymentError)
            props = context.endpoint_props(preset)
            # Endpoint names have no case in ARNs.
            other = presets_of.setdefault(props.endpoint_name.lower(), preset.name)
            if other != preset.name:
                raise DeploymentError(
                    f"the presets {other!r} and {preset.name!r} would both have the endpoint "
                    f"{props.endpoint_name!r}; name each in an object of its options"
                )
            stack = EndpointStack(app, name, props=props)
            for key in context.passed_over:
                cdk.Annotations.of(stack).add_info(f"context {key!r} is no option of inf2kit: passed over")
        except DeploymentError as error:
            PlaceholderStack(app, name, reason=str(error))
    if context.compile_role is not None:
        CompileRoleStack(app, COMPILE_ROLE_STACK, props=context.compile_role)
    return app


def _parse_boundary(app: cdk.App) -> None:
    """Make an object of the permissions boundary if it is a text.

    The library reads an object only, and ``cdk -c`` gives a text: every role would be without the boundary.

    Raises:
        DeploymentError: it is not an object with the policy's name or ARN.
    """
    boundary = app.node.try_get_context(_BOUNDARY)
    if boundary is None:
        return
    parsed = None
    with contextlib.suppress(ValueError):
        parsed = json.loads(boundary) if isinstance(boundary, str) else boundary
    if not isinstance(parsed, dict) or not (parsed.get("name") or parsed.get("arn")):
        raise DeploymentError(
            f'context {_BOUNDARY!r} is {boundary!r}; it must be an object such as {{"name": "POLICY"}}'
        )
    app.node.set_context(_BOUNDARY, parsed)
