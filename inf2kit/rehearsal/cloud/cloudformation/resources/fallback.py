"""Every other type, made as moto makes it."""

from __future__ import annotations

from typing import Any

from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

from inf2kit.rehearsal.cloud.cloudformation.resources.base import Here, Made, Properties, Type
from inf2kit.rehearsal.cloud.errors import AwsError


class MotosType(Type):
    """A type that is made as moto makes it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._model: Any = parsing.get_model_map()[kind]
        self.name_property = parsing.resource_name_property_from_type(kind) or ""

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        given = {"LogicalId": name, "StackId": "", "ResourceType": self._kind}
        resource = self._model.create_from_cloudformation_json(
            name, self._json(properties), here.account, here.region, **given
        )
        return self._made(resource, name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        method = self._model.update_from_cloudformation_json
        if method.__func__ is CloudFormationModel.update_from_cloudformation_json.__func__:
            raise AwsError("ValidationError", f"{self._kind} cannot be updated in this rehearsal")
        resource = self._model.update_from_cloudformation_json(
            made.attributes["moto"], made.physical_id, self._json(new), here.account, here.region
        )
        return self._made(resource, made.physical_id)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        resource = made.attributes["moto"]
        try:
            resource.delete(here.account, here.region)
        except (TypeError, AttributeError):
            self._model.delete_from_cloudformation_json(
                made.physical_id, self._json(properties), here.account, here.region
            )

    def _json(self, properties: Properties) -> dict[str, Any]:
        return {"Type": self._kind, "Properties": dict(properties)}

    def _made(self, resource: Any, name: str) -> Made:
        return Made(str(getattr(resource, "physical_resource_id", name)), MotosAttributes(resource))


class MotosAttributes(dict[str, Any]):
    """Asks moto's resource for what is not known beforehand."""

    def __init__(self, resource: Any) -> None:
        super().__init__(moto=resource)
        self._resource = resource

    def __missing__(self, name: str) -> Any:
        try:
            return self._resource.get_cfn_attribute(name)
        except Exception:
            raise KeyError(name) from None


class Metadata(Type):
    """The CDK's own mark, which is nothing."""

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        return Made(name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """There is nothing to delete."""
