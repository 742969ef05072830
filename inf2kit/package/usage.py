"""Who loads packages: SageMaker's models, and what its endpoints serve now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit import aws
from inf2kit.errors import PackageError


@dataclass(frozen=True)
class Users:
    """Who loads what, at one moment.

    Attributes:
        models: The places that each model loads, with a slash at their end.
        unclear: Endpoints of which it cannot be told what they load, a sentence each.
    """

    models: Mapping[str, tuple[str, ...]]
    unclear: tuple[str, ...]

    def of(self, where: str) -> tuple[str, ...]:
        """The models that load a package, something in it, or a prefix that it lies in.

        Args:
            where: The package's place.
        """
        return tuple(
            name
            for name, places in sorted(self.models.items())
            if any(where.startswith(place) or place.startswith(where) for place in places)
        )


class SageMaker:
    """SageMaker of one region, asked again and again; what cannot change is asked once.

    Args:
        region_name: Where the bucket is: only models there can load its packages.
    """

    def __init__(self, region_name: str) -> None:
        self._client = aws.client("sagemaker", region_name)
        self._models: dict[tuple[str, Any], tuple[str, ...]] = {}

    def users(self) -> Users:
        """Models of now, those that a rollback returns to among them, and whether they explain all endpoints.

        Raises:
            PackageError: SageMaker cannot be asked.
        """
        with aws.translate_errors(PackageError, "asking SageMaker which packages its models use"):
            # Endpoints first: the model of an endpoint that is made meanwhile is then seen all the same.
            serving = list(self._serving())
            models = dict(self._loaded())
        unclear = {
            f"the endpoint {endpoint} serves {what}, which was deleted"
            for endpoint, what, model in serving
            if model not in models
        }
        return Users(models, tuple(sorted(unclear)))

    def _loaded(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for model in self._pages("list_models", "Models"):
            # A model never changes, but another one may take its name.
            key = (model["ModelName"], model["CreationTime"])
            if key not in self._models:
                description = self._described("model", ModelName=model["ModelName"])
                if description is None:
                    continue
                self._models[key] = tuple(uri.rstrip("/") + "/" for uri in _uris(description))
            yield model["ModelName"], self._models[key]

    def _serving(self) -> Iterator[tuple[str, str, str | None]]:
        """An endpoint, what it serves in words, and its model; None where its configuration is gone."""
        for each in self._pages("list_endpoints", "Endpoints"):
            name = each["EndpointName"]
            endpoint = self._described("endpoint", EndpointName=name)
            if endpoint is None:
                continue
            pending = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
            for config_name in filter(None, (endpoint.get("EndpointConfigName"), pending)):
                config = self._described("endpoint_config", EndpointConfigName=config_name)
                if config is None:
                    yield name, f"by the configuration {config_name}", None
                    continue
                variants = (*config["ProductionVariants"], *config.get("ShadowProductionVariants", ()))
                for variant in variants:
                    if "ModelName" in variant:
                        yield name, f"the model {variant['ModelName']}", variant["ModelName"]

    def _described(self, kind: str, **name: str) -> dict[str, Any] | None:
        """Its description, or None where it is not there any more."""
        from botocore.exceptions import ClientError

        try:
            description: dict[str, Any] = getattr(self._client, f"describe_{kind}")(**name)
        except ClientError as error:
            if "Could not find" in str(error):
                return None
            raise
        return description

    def _pages(self, operation: str, what: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator(operation).paginate():
            yield from page[what]


def _uris(description: Mapping[str, Any]) -> Iterator[str]:
    for container in (description.get("PrimaryContainer") or {}, *description.get("Containers", ())):
        uri = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        if uri or container.get("ModelDataUrl"):
            yield uri or container["ModelDataUrl"]
