"""SageMaker's hosting operations, as boto3 and CloudFormation call them."""

from __future__ import annotations

import datetime as dt
import fnmatch
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.iam import Execution
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker import model_data, validation
from inf2kit.rehearsal.cloud.sagemaker.endpoint import SETTLED, Endpoint
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet, Place, container_of, uri_of
from inf2kit.rehearsal.cloud.sagemaker.refusals import (
    check_rollout,
    check_update,
    refuse_odd_model,
    refuse_unmade,
)
from inf2kit.rehearsal.runtime.server import Target

#: The operations answered here; the others are moto's.
OPERATIONS = frozenset(
    f"{verb}{noun}"
    for noun, verbs in {
        "Model": ("Create", "Describe", "Delete"),
        "Models": ("List",),
        "EndpointConfig": ("Create", "Describe", "Delete"),
        "EndpointConfigs": ("List",),
        "Endpoint": ("Create", "Describe", "Update", "Delete"),
        "Endpoints": ("List",),
        "EndpointWeightsAndCapacities": ("Update",),
        "Tags": ("Add", "List", "Delete"),
    }.items()
    for verb in verbs
)
_PAGE = 10


class Hosting:
    """Models, configurations and endpoints of one account and region.

    Args:
        account: Of everything here.
        region: Of everything here.
        place: Where fleets live.
        clock: Of AWS's waits.
        alarms_on: Which alarms of some names are in ALARM.
        scaled: The variants that a scalable target is registered for, as ``endpoint/NAME/variant/NAME``.
    """

    def __init__(
        self,
        account: str,
        region: str,
        place: Place,
        clock: Clock,
        *,
        alarms_on: Callable[[Sequence[str]], list[str]],
        scaled: Callable[[], set[str]],
    ) -> None:
        self._where = f"arn:aws:sagemaker:{region}:{account}"
        self._place, self._clock = place, clock
        self._alarms_on, self._scaled = alarms_on, scaled
        self._lock = threading.RLock()
        self._models: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._closed = False

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Carry one operation out.

        Raises:
            AwsError: SageMaker would refuse it.
        """
        if self._closed:
            raise AwsError("ServiceUnavailable", "The rehearsal cloud is being stopped.")
        validation.check(operation, request)
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)[1:]
        with self._lock:
            result: dict[str, Any] = getattr(self, name)(request)
        return result

    def target(self, name: str, variant: str) -> Target | None:
        """The container that takes the next call of an endpoint; None where there is no such endpoint."""
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            return None
        if "AsyncInferenceConfig" in endpoint.config:
            return Target("", "asynchronous, to be called by InvokeEndpointAsync")
        known = {fleet.variant for fleet in endpoint.fleets}
        if endpoint.called and variant and variant not in known:
            # In service, but not with that one.
            return Target("", "InService", variant="")
        target = endpoint.pick(variant) if endpoint.called else None
        return target or Target("", endpoint.status if not endpoint.called else "without an instance")

    def close(self) -> None:
        """Stop every endpoint, and take no more."""
        with self._lock:
            self._closed = True
        threads = [threading.Thread(target=endpoint.delete) for endpoint in list(self.endpoints.values())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def create_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Remember a model whose files are there."""
        name = request["ModelName"]
        arn = self._new("model", name, self._models)
        refuse_odd_model(request)
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
        execution = Execution(request["ExecutionRoleArn"], arn)
        execution.check_trust()
        keys = objects.below(uri)
        if not keys:
            raise AwsError("ValidationException", f"Could not find model data at {uri}.")
        execution.check_model(uri, keys)
        self._models[name] = {**_without_tags(request), "ModelArn": arn, "CreationTime": _now()}
        self._tag(arn, request)
        return {"ModelArn": arn}

    def describe_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """What CreateModel was told."""
        return self._known("model", request["ModelName"], self._models)

    def list_models(self, request: dict[str, Any]) -> dict[str, Any]:
        """All models."""
        return _listed("Models", "Model", self._models.values(), request)

    def delete_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Forget a model."""
        found = self._known("model", request["ModelName"], self._models)
        del self._models[request["ModelName"]]
        self._tags.pop(found["ModelArn"], None)
        return {}

    def create_endpoint_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """Remember a configuration whose models are there."""
        name = request["EndpointConfigName"]
        arn = self._new("endpoint-config", name, self._configs)
        refuse_unmade(request)
        for variant in request["ProductionVariants"]:
            self._known("model", variant["ModelName"], self._models)
        self._configs[name] = {**_without_tags(request), "EndpointConfigArn": arn, "CreationTime": _now()}
        self._tag(arn, request)
        return {"EndpointConfigArn": arn}

    def describe_endpoint_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """What CreateEndpointConfig was told."""
        return self._known("endpoint-config", request["EndpointConfigName"], self._configs)

    def list_endpoint_configs(self, request: dict[str, Any]) -> dict[str, Any]:
        """All configurations."""
        return _listed("EndpointConfigs", "EndpointConfig", self._configs.values(), request)

    def delete_endpoint_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """Forget a configuration."""
        found = self._known("endpoint-config", request["EndpointConfigName"], self._configs)
        del self._configs[request["EndpointConfigName"]]
        self._tags.pop(found["EndpointConfigArn"], None)
        return {}

    def create_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start an endpoint; its status tells how that goes."""
        name = request["EndpointName"]
        if name in self.endpoints:
            raise AwsError(
                "ValidationException",
                f'Cannot create already existing endpoint "{self.endpoints[name].arn}".',
            )
        config = self._known("endpoint-config", request["EndpointConfigName"], self._configs)
        arn = f"{self._where}:endpoint/{name.lower()}"
        self._tag(arn, request)
        endpoint = Endpoint(
            name,
            arn,
            request["EndpointConfigName"],
            config,
            build=lambda config, counts: self._fleets(name, config, counts),
            alarms_on=self._alarms_on,
            clock=self._clock,
            say=self._place.say,
            deployment=request.get("DeploymentConfig", {}),
        )
        self.endpoints[name] = endpoint
        self._mark(endpoint, config)
        endpoint.create()
        return {"EndpointArn": arn}

    def describe_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """What an endpoint is and does."""
        endpoint = self._endpoint(request["EndpointName"])
        described: dict[str, Any] = {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "EndpointConfigName": endpoint.config_name,
            "EndpointStatus": endpoint.status,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
            "ProductionVariants": [
                {
                    "VariantName": fleet.variant,
                    "DeployedImages": [{"SpecifiedImage": fleet.image}],
                    "CurrentWeight": fleet.weight,
                    "DesiredWeight": fleet.weight,
                    "CurrentInstanceCount": fleet.size,
                    "DesiredInstanceCount": fleet.wished,
                }
                for fleet in endpoint.fleets
            ],
        }
        if endpoint.failure_reason:
            described["FailureReason"] = endpoint.failure_reason[:1024]
        if endpoint.deployment:
            described["LastDeploymentConfig"] = endpoint.deployment
        for name in ("AsyncInferenceConfig", "DataCaptureConfig"):
            if name in endpoint.config:
                described[name] = endpoint.config[name]
        return described

    def list_endpoints(self, request: dict[str, Any]) -> dict[str, Any]:
        """All endpoints."""
        found = [
            {
                "EndpointName": each.name,
                "EndpointArn": each.arn,
                "CreationTime": each.created,
                "LastModifiedTime": each.modified,
                "EndpointStatus": each.status,
            }
            for each in self.endpoints.values()
            if request.get("StatusEquals") in (None, each.status)
        ]
        return _listed("Endpoints", "Endpoint", found, request)

    def update_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """Exchange an endpoint's configuration, blue/green."""
        endpoint = self._idle(request["EndpointName"])
        config = self._known("endpoint-config", request["EndpointConfigName"], self._configs)
        if endpoint.status == "Failed":
            raise AwsError("ValidationException", f'Cannot update failed endpoint "{endpoint.arn}".')
        if request["EndpointConfigName"] == endpoint.config_name:
            raise AwsError(
                "ValidationException",
                "Cannot update endpoint with the currently in use endpoint configuration "
                f'"{endpoint.config_name}".',
            )
        self._refuse_other_instances(endpoint, config)
        check_update(endpoint.name, endpoint.config, config)
        counts = {}
        if request.get("RetainAllVariantProperties"):
            counts = {fleet.variant: fleet.wished for fleet in endpoint.fleets}
        deployment = request.get("DeploymentConfig", {})
        if request.get("RetainDeploymentConfig"):
            deployment = endpoint.deployment
        instances = sum(
            counts.get(variant["VariantName"], int(variant.get("InitialInstanceCount", 1)))
            for variant in config["ProductionVariants"]
        )
        check_rollout(deployment, instances)
        self._mark(endpoint, config)
        endpoint.update(request["EndpointConfigName"], config, deployment, counts)
        return {"EndpointArn": endpoint.arn}

    def update_endpoint_weights_and_capacities(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change how many instances a variant has, and its share of the calls."""
        endpoint = self._idle(request["EndpointName"])
        fleets = {fleet.variant: fleet for fleet in endpoint.fleets}
        counts = {}
        for wished in request["DesiredWeightsAndCapacities"]:
            fleet = fleets.get(wished["VariantName"])
            if fleet is None:
                raise AwsError(
                    "ValidationException", f"The variant {wished['VariantName']} is not in the endpoint."
                )
            if "DesiredWeight" in wished:
                fleet.weight = float(wished["DesiredWeight"])
                for route in endpoint.routes:
                    route.weight = route.fleet.weight
            if "DesiredInstanceCount" in wished:
                least = 0 if "AsyncInferenceConfig" in endpoint.config else 1
                if wished["DesiredInstanceCount"] < least:
                    raise AwsError("ValidationException", f"DesiredInstanceCount must be at least {least}.")
                counts[fleet.variant] = int(wished["DesiredInstanceCount"])
        endpoint.resize(counts)
        return {"EndpointArn": endpoint.arn}

    def delete_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop an endpoint; it is gone when nothing of it runs any more."""
        endpoint = self._endpoint(request["EndpointName"])
        if endpoint.status != "Deleting":
            self._idle(endpoint.name)
            endpoint.status = "Deleting"
            threading.Thread(target=self._delete, args=(endpoint,), daemon=True).start()
        return {}

    def add_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """Tag something."""
        self._tag(request["ResourceArn"], request)
        return {"Tags": self._tags_of(request["ResourceArn"])}

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """The tags of something."""
        return {"Tags": self._tags_of(request["ResourceArn"])}

    def delete_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take tags away."""
        for key in request["TagKeys"]:
            self._tags.get(request["ResourceArn"], {}).pop(key, None)
        return {}

    def _delete(self, endpoint: Endpoint) -> None:
        try:
            endpoint.delete()
        finally:
            # Whatever happens, somebody waits for it to be gone.
            with self._lock:
                self.endpoints.pop(endpoint.name, None)
                self._tags.pop(endpoint.arn, None)

    def _fleets(self, name: str, config: Mapping[str, Any], counts: Mapping[str, int]) -> list[Fleet]:
        fleets = []
        for variant in config["ProductionVariants"]:
            wished = counts.get(variant["VariantName"], int(variant.get("InitialInstanceCount", 1)))
            model = self._models.get(variant["ModelName"], {})
            execution = Execution(
                str(model.get("ExecutionRoleArn")), f"{self._where}:endpoint/{name.lower()}"
            )
            fleets.append(Fleet(self._place, name, variant, model, wished, execution))
        return fleets

    def _mark(self, endpoint: Endpoint, config: Mapping[str, Any]) -> None:
        """What stands in for a device is said among the endpoint's tags."""
        for variant in config["ProductionVariants"]:
            said = model_data.notice(uri_of(self._models.get(variant["ModelName"], {})))
            value = said or "rehearsal: on this machine, not on AWS"
            self._tags.setdefault(endpoint.arn, {})["inf2kit:rehearsal"] = value[:256]

    def _refuse_other_instances(self, endpoint: Endpoint, config: Mapping[str, Any]) -> None:
        now = {fleet.variant: fleet.instance_type for fleet in endpoint.fleets}
        for variant in config["ProductionVariants"]:
            name = variant["VariantName"]
            scaled = f"endpoint/{endpoint.name}/variant/{name}" in self._scaled()
            if scaled and now.get(name, variant.get("InstanceType")) != variant.get("InstanceType"):
                raise AwsError(
                    "ValidationException",
                    f"The variant {name} is registered as a scalable target; deregister it before its "
                    "instance type is changed.",
                )

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            arn = f"{self._where}:endpoint/{name.lower()}"
            raise AwsError("ValidationException", f'Could not find endpoint "{arn}".')
        return endpoint

    def _idle(self, name: str) -> Endpoint:
        endpoint = self._endpoint(name)
        if endpoint.status not in SETTLED:
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def _known(self, kind: str, name: str, among: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        if name not in among:
            raise AwsError(
                "ValidationException", f'Could not find {kind} "{self._where}:{kind}/{name.lower()}".'
            )
        return among[name]

    def _new(self, kind: str, name: str, among: Mapping[str, Any]) -> str:
        arn = f"{self._where}:{kind}/{name.lower()}"
        if name in among:
            raise AwsError("ValidationException", f'Cannot create already existing {kind} "{arn}".')
        return arn

    def _tag(self, arn: str, request: Mapping[str, Any]) -> None:
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        if tags:
            self._tags.setdefault(arn, {}).update(tags)

    def _tags_of(self, arn: str) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in sorted(self._tags.get(arn, {}).items())]


def _listed(plural: str, noun: str, found: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """One page of summaries, newest first as SageMaker lists them."""
    name = f"{noun}Name"
    part = request.get("NameContains", "")
    order = str(request.get("SortOrder", "Descending"))
    kept = [each for each in found if fnmatch.fnmatch(each[name], f"*{part}*")]
    kept.sort(key=lambda each: each["CreationTime"], reverse=order == "Descending")
    start, size = int(request.get("NextToken") or 0), int(request.get("MaxResults", _PAGE))
    summaries = [
        {key: value for key, value in each.items() if key in _SUMMARY or key.startswith(noun)}
        for each in kept[start : start + size]
    ]
    page: dict[str, Any] = {plural: summaries}
    if start + size < len(kept):
        page["NextToken"] = str(start + size)
    return page


_SUMMARY = ("CreationTime", "LastModifiedTime")


def _without_tags(request: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key != "Tags"}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
