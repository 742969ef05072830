"""Which SageMaker models load which packages, and what the endpoints serve now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError


@dataclass(frozen=True)
class PackageUsage:
    """Which models load which packages, at one moment.

    Attributes:
        models: The URIs that each model loads, each with a slash at its end.
        unknown: A sentence for each endpoint whose packages are not known.
    """

    models: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]

    def models_using(self, package_uri: str) -> tuple[str, ...]:
        """Return the models that load a package, a part of it, or a prefix that holds it."""
        return tuple(
            name
            for name, uris in sorted(self.models.items())
            if any(package_uri.startswith(uri) or uri.startswith(package_uri) for uri in uris)
        )


@dataclass(frozen=True)
class _ServedModel:
    """A model that an endpoint serves.

    Attributes:
        endpoint: The endpoint's name.
        description: The model in an error message.
        model: The model's name; None where the endpoint's configuration was deleted.
    """

    endpoint: str
    description: str
    model: str | None


class UsageScanner:
    """Reads the models and endpoints of one region, repeatedly; descriptions that cannot change are cached.

    Args:
        region_name: The bucket's region: only models there can load its packages.
    """

    def __init__(self, region_name: str) -> None:
        self._client = aws.client("sagemaker", region_name)
        self._models: dict[tuple[str, Any], tuple[str, ...]] = {}

    def scan(self) -> PackageUsage:
        """Read which packages the models load now, those for a rollback included, and check the endpoints.

        Raises:
            PackageError: SageMaker cannot be read.
        """
        with aws.translate_errors(PackageError, "asking SageMaker which packages its models use"):
            # Endpoints first: a model that is created during the scan is then among the models.
            served = list(self._list_served())
            models = dict(self._list_models())
        unknown = {
            f"the endpoint {served_model.endpoint} serves {served_model.description}, which was deleted"
            for served_model in served
            if served_model.model not in models
        }
        return PackageUsage(models, tuple(sorted(unknown)))

    def _list_models(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each model and the URIs that it loads."""
        for model in self._list("list_models", "Models"):
            # A model never changes, but a new one may take its name.
            key = (model["ModelName"], model["CreationTime"])
            if key not in self._models:
                description = self._describe("model", ModelName=model["ModelName"])
                if description is None:
                    continue
                self._models[key] = tuple(uri.rstrip("/") + "/" for uri in _model_data_uris(description))
            yield model["ModelName"], self._models[key]

    def _list_served(self) -> Iterator[_ServedModel]:
        for summary in self._list("list_endpoints", "Endpoints"):
            name = summary["EndpointName"]
            endpoint = self._describe("endpoint", EndpointName=name)
            if endpoint is None:
                continue
            pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
            for config_name in filter(None, (endpoint.get("EndpointConfigName"), pending)):
                config = self._describe("endpoint_config", EndpointConfigName=config_name)
                if config is None:
                    yield _ServedModel(name, f"by the configuration {config_name}", None)
                    continue
                variants = (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ()))
                for variant in variants:
                    if "ModelName" in variant:
                        model = variant["ModelName"]
                        yield _ServedModel(name, f"the model {model}", model)

    def _describe(self, kind: str, **name: str) -> dict[str, Any] | None:
        """Describe a resource; None where it was deleted."""
        from botocore.exceptions import ClientError

        try:
            description: dict[str, Any] = getattr(self._client, f"describe_{kind}")(**name)
        except ClientError as error:
            if "Could not find" in str(error):
                return None
            raise
        return description

    def _list(self, operation: str, key: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator(operation).paginate():
            yield from page[key]


def _model_data_uris(description: Mapping[str, Any]) -> Iterator[str]:
    for container in (description.get("PrimaryContainer") or {}, *description.get("Containers", ())):
        uri = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        if uri or container.get("ModelDataUrl"):
            yield uri or container["ModelDataUrl"]
