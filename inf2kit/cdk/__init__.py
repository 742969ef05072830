"""CDK constructs for inf2kit's endpoints, to use in your own CDK app.

They come with ``pip install 'inf2kit[infra]'``. A whole app, with a role that may call the endpoint:

    import aws_cdk as cdk
    from aws_cdk import aws_iam as iam

    import inf2kit
    from inf2kit.cdk import DeployedPackage, EndpointProps, EndpointStack

    app = cdk.App()
    package = DeployedPackage.from_uri("s3://BUCKET/models/DIGEST/")
    preset = inf2kit.load_preset("llama2-7b-throughput")
    props = EndpointProps(preset=preset, package=package, max_instances=4)
    endpoint = EndpointStack(app, "llama", props=props)
    backend = cdk.Stack(app, "backend")
    endpoint.grant_invoke(iam.Role(backend, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")))
    app.synth()

A synth makes no network call: ``inf2kit package`` prints the package's URI and keeps a copy of its manifest
on the machine, which ``from_uri`` reads.
"""

from importlib.util import find_spec

from inf2kit.extras import install_command

if find_spec("aws_cdk") is None:
    raise ImportError(
        f"inf2kit.cdk needs the AWS CDK, which is not installed; run: {install_command('infra')}",
        name="aws_cdk",
    )

from inf2kit.cdk.compile_role import CompileRole, CompileRoleProps, CompileRoleStack
from inf2kit.cdk.stack import EndpointStack
from inf2kit.deployment import DeployedPackage, EndpointProps
from inf2kit.errors import DeploymentError

__all__ = [
    "CompileRole",
    "CompileRoleProps",
    "CompileRoleStack",
    "DeployedPackage",
    "DeploymentError",
    "EndpointProps",
    "EndpointStack",
]
