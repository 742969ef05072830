"""Scalable targets and scaling policies."""

from __future__ import annotations

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
    call,
)

#: The parts of a target's physical id, in their order.
_TARGET = ("ResourceId", "ScalableDimension", "ServiceNamespace")


class ScalableTarget(ResourceHandler):
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        # A template has tags as a list, the service takes a map.
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        request = {**properties, "Tags": tags} if tags else properties
        return self._register(services, request)

    @staticmethod
    def _register(services: Services, request: Properties) -> PhysicalResource:
        call(services.client("application-autoscaling"), "RegisterScalableTarget", request)
        physical_id = "|".join(str(request[key]) for key in _TARGET)
        return PhysicalResource(physical_id, {"Id": physical_id})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        # The service takes tags with the first registration only.
        return self._register(services, {key: value for key, value in new.items() if key != "Tags"})

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        request = {key: properties[key] for key in _TARGET}
        services.client("application-autoscaling").deregister_scalable_target(**request)


class ScalingPolicy(ResourceHandler):
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        request = {**self._target(properties), **properties}
        arn = call(services.client("application-autoscaling"), "PutScalingPolicy", request)["PolicyARN"]
        return PhysicalResource(arn, {"Arn": arn})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        return self.create(services, "", new)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        request = {"PolicyName": properties["PolicyName"], **self._target(properties)}
        services.client("application-autoscaling").delete_scaling_policy(**request)

    @staticmethod
    def _target(properties: Properties) -> dict[str, str]:
        if "ScalingTargetId" in properties:
            return dict(zip(_TARGET, properties["ScalingTargetId"].split("|"), strict=True))
        return {key: properties[key] for key in _TARGET}
