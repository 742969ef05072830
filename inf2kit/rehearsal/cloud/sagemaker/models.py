"""CreateModel and CreateEndpointConfig: what they refuse beyond botocore's model of the request."""

from __future__ import annotations

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.iam import ExecutionRole
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker.fleet import ROUTING_STRATEGIES
from inf2kit.rehearsal.cloud.sagemaker.model_data import container_of, uri_of
from inf2kit.rehearsal.cloud.sagemaker.records import Records, Request, Response, Tags

#: SageMaker's limit for all variables of a container together.
_ENVIRONMENT_BYTES = 32 * 1024


class Models(Records):
    """The models; a model is stored only if its role can read its files.

    Args:
        arn_prefix: The ARN up to the kind of resource.
        tags: The tags of all resources.
    """

    def __init__(self, arn_prefix: str, tags: Tags) -> None:
        super().__init__("Model", "model", arn_prefix, tags)

    def create(self, request: Request) -> Response:
        """Answer CreateModel.

        Raises:
            AwsError: SageMaker would refuse the model, or it is not simulated.
        """
        arn = self.new_arn(request)
        _check_container(request)
        source = container_of(request).get("ModelDataSource", {}).get("S3DataSource", {})
        if source.get("CompressionType") != "None" or source.get("S3DataType") != "S3Prefix":
            raise AwsError(
                "ValidationException",
                "This rehearsal takes an uncompressed model only: ModelDataSource.S3DataSource with "
                "S3DataType S3Prefix and CompressionType None.",
            )
        uri = uri_of(request)
        if not uri.endswith("/"):
            raise AwsError("ValidationException", f"S3Uri must end with a forward slash for S3Prefix: {uri}")
        role = ExecutionRole(request["ExecutionRoleArn"], arn)
        role.check_trust()
        keys = objects.list_prefix(uri)
        if not keys:
            raise AwsError("ValidationException", f"Could not find model data at {uri}.")
        role.check_model(uri, keys)
        return self.add(arn, request)


class EndpointConfigs(Records):
    """The endpoint configurations.

    Args:
        arn_prefix: The ARN up to the kind of resource.
        tags: The tags of all resources.
        models: The models that the variants name.
    """

    def __init__(self, arn_prefix: str, tags: Tags, models: Models) -> None:
        super().__init__("EndpointConfig", "endpoint-config", arn_prefix, tags)
        self._models = models

    def create(self, request: Request) -> Response:
        """Answer CreateEndpointConfig.

        Raises:
            AwsError: SageMaker would refuse the configuration, or it is not simulated.
        """
        arn = self.new_arn(request)
        _check_variants(request)
        for variant in request["ProductionVariants"]:
            self._models.get(variant["ModelName"])
        return self.add(arn, request)


def _check_container(request: Request) -> None:
    """Refuse a model that is not one container with an image."""
    containers = request.get("Containers") or [request.get("PrimaryContainer") or {}]
    if len(containers) != 1 or containers[0].get("Mode", "SingleModel") != "SingleModel":
        raise _unsupported("a model of several containers or in MultiModel mode")
    if not request.get("ExecutionRoleArn"):
        raise AwsError("ValidationException", "ExecutionRoleArn is required.")
    if not containers[0].get("Image"):
        raise AwsError("ValidationException", "The container must have an Image.")
    environment = containers[0].get("Environment", {})
    size = sum(len(f"{name}{value}".encode()) for name, value in environment.items())
    if size > _ENVIRONMENT_BYTES:
        raise AwsError(
            "ValidationException",
            f"The environment has {size} bytes; at most {_ENVIRONMENT_BYTES} are allowed in all.",
        )


def _check_variants(request: Request) -> None:
    """Refuse variants that share a name or do not run on instances of their own."""
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) < len(names):
        raise AwsError("ValidationException", "ProductionVariants must have different names.")
    if request.get("ShadowProductionVariants"):
        raise _unsupported("shadow variants")
    for variant in variants:
        if variant.get("ServerlessConfig"):
            raise _unsupported("serverless variants")
        if not variant.get("ModelName"):
            raise _unsupported("variants of inference components (without ModelName)")
        if variant.get("ManagedInstanceScaling"):
            raise _unsupported("managed instance scaling, which is for inference components")
        if variant.get("RoutingConfig", {}).get("RoutingStrategy") not in (None, *ROUTING_STRATEGIES):
            raise _unsupported(f"routing strategies other than {' and '.join(ROUTING_STRATEGIES)}")
        for name in ("InstanceType", "InitialInstanceCount"):
            if not variant.get(name):
                raise AwsError(
                    "ValidationException", f"The variant {variant['VariantName']} needs an {name}."
                )


def _unsupported(feature: str) -> AwsError:
    return AwsError("ValidationException", f"This rehearsal does not support {feature}.")
