"""Scalable targets and scaling policies."""

from __future__ import annotations

from inf2kit.rehearsal.cloud.cloudformation.resources.base import Here, Made, Properties, Type, call


class ScalableTarget(Type):
    _IDS = ("ServiceNamespace", "ResourceId", "ScalableDimension")

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        # Templates have tags as a list, the service as a map.
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        request = {**properties, "Tags": tags} if tags else properties
        return self._registered(here, request)

    @staticmethod
    def _registered(here: Here, request: Properties) -> Made:
        call(here.client("application-autoscaling"), "RegisterScalableTarget", request)
        made = "|".join(str(request[key]) for key in ("ResourceId", "ScalableDimension", "ServiceNamespace"))
        return Made(made, {"Id": made})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        # The service takes tags with the first registration only.
        return self._registered(here, {key: value for key, value in new.items() if key != "Tags"})

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        request = {key: properties[key] for key in self._IDS}
        here.client("application-autoscaling").deregister_scalable_target(**request)


class ScalingPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        request = {**self._target(properties), **properties}
        answer = call(here.client("application-autoscaling"), "PutScalingPolicy", request)
        return Made(answer["PolicyARN"], {"Arn": answer["PolicyARN"]})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, "", new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        request = {"PolicyName": properties["PolicyName"], **self._target(properties)}
        here.client("application-autoscaling").delete_scaling_policy(**request)

    @staticmethod
    def _target(properties: Properties) -> dict[str, str]:
        names = ("ResourceId", "ScalableDimension", "ServiceNamespace")
        if "ScalingTargetId" in properties:
            return dict(zip(names, properties["ScalingTargetId"].split("|"), strict=True))
        return {name: properties[name] for name in names}
