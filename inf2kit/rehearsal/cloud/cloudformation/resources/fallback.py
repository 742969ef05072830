"""Resource types that only moto handles, and the CDK's metadata."""

from __future__ import annotations

from typing import Any

from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
)
from inf2kit.rehearsal.cloud.errors import AwsError


class MotoHandler(ResourceHandler):
    """Handles a type with moto's model of it.

    Args:
        kind: The resource type.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._model: Any = parsing.get_model_map()[kind]
        self.name_property = parsing.resource_name_property_from_type(kind) or ""

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        moto_resource = self._model.create_from_cloudformation_json(
            name,
            self._json(properties),
            services.account,
            services.region,
            LogicalId=name,
            StackId="",
            ResourceType=self._kind,
        )
        return self._physical(moto_resource, name)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        method = self._model.update_from_cloudformation_json
        if method.__func__ is CloudFormationModel.update_from_cloudformation_json.__func__:
            raise AwsError("ValidationError", f"{self._kind} cannot be updated in this rehearsal")
        moto_resource = method(
            resource.attributes["moto"], resource.id, self._json(new), services.account, services.region
        )
        return self._physical(moto_resource, resource.id)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        try:
            resource.attributes["moto"].delete(services.account, services.region)
        except (TypeError, AttributeError):
            self._model.delete_from_cloudformation_json(
                resource.id, self._json(properties), services.account, services.region
            )

    def _json(self, properties: Properties) -> dict[str, Any]:
        return {"Type": self._kind, "Properties": dict(properties)}

    def _physical(self, moto_resource: Any, name: str) -> PhysicalResource:
        physical_id = str(getattr(moto_resource, "physical_resource_id", name))
        return PhysicalResource(physical_id, _MotoAttributes(moto_resource))


class _MotoAttributes(dict[str, Any]):
    """The attributes of moto's resource, computed by moto when they are read."""

    def __init__(self, moto_resource: Any) -> None:
        super().__init__(moto=moto_resource)
        self._resource = moto_resource

    def __missing__(self, name: str) -> Any:
        try:
            return self._resource.get_cfn_attribute(name)
        except Exception:
            raise KeyError(name) from None


class CdkMetadata(ResourceHandler):
    """The CDK's metadata, which creates nothing."""

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        return PhysicalResource(name)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        """There is nothing to delete."""
