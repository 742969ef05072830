"""CDK constructs for endpoints, for the app in ``infra/`` and for your own; needs the extra ``infra``.

from inf2kit.cdk import EndpointProps, EndpointStack
"""

from inf2kit.cdk.compile_role import CompileProps, CompileRole, CompileRoleStack
from inf2kit.cdk.packages import DeployedPackage
from inf2kit.cdk.props import EndpointProps
from inf2kit.cdk.stack import EndpointStack

__all__ = [
    "CompileProps",
    "CompileRole",
    "CompileRoleStack",
    "DeployedPackage",
    "EndpointProps",
    "EndpointStack",
]
