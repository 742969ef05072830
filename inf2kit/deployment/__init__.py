"""What is deployed, whichever way: the props of an endpoint, and what SageMaker is asked for."""

from inf2kit.deployment.package import DeployedPackage
from inf2kit.deployment.props import EndpointProps

__all__ = ["DeployedPackage", "EndpointProps"]
