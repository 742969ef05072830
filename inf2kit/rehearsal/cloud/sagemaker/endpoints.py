"""The operations of endpoints: create, describe, list, update, scale and delete."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.iam import ExecutionRole
from inf2kit.rehearsal.cloud.sagemaker import model_data
from inf2kit.rehearsal.cloud.sagemaker.deployment_config import (
    alarm_names,
    check_policies,
    check_sizes,
    instances_of,
    started_beside,
)
from inf2kit.rehearsal.cloud.sagemaker.endpoint import SETTLED, Endpoint
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet
from inf2kit.rehearsal.cloud.sagemaker.launcher import FleetContext
from inf2kit.rehearsal.cloud.sagemaker.model_data import uri_of
from inf2kit.rehearsal.cloud.sagemaker.models import EndpointConfigs, Models
from inf2kit.rehearsal.cloud.sagemaker.records import Request, Response, Tags, summarize

_ASYNC = "AsyncInferenceConfig"


class Endpoints:
    """The endpoints of one account and region.

    Args:
        arn_prefix: The ARN up to the kind of resource.
        tags: The tags of all resources.
        models: The models that the fleets serve.
        configs: The endpoint configurations.
        context: What all fleets share.
        clock: Shortens AWS's deliberate waits.
        in_alarm: Returns those of the named alarms that are in ALARM.
        list_alarms: Lists the names of all alarms.
        list_targets: Lists the scalable targets, as ``endpoint/NAME/variant/NAME``.
        check_quota: Refuses instances, by type, that are to be added to those in use.
        on_stopped: Called with the name of an endpoint whose processes have ended, before it is gone.
    """

    def __init__(
        self,
        arn_prefix: str,
        tags: Tags,
        models: Models,
        configs: EndpointConfigs,
        context: FleetContext,
        clock: Clock,
        *,
        in_alarm: Callable[[Sequence[str]], list[str]],
        list_alarms: Callable[[], set[str]],
        list_targets: Callable[[], set[str]],
        check_quota: Callable[[Mapping[str, int], Mapping[str, int]], None],
        on_stopped: Callable[[str], None],
    ) -> None:
        self._arn_prefix, self._tags, self._models, self._configs = arn_prefix, tags, models, configs
        self._context, self._clock = context, clock
        self._in_alarm, self._list_targets, self._list_alarms = in_alarm, list_targets, list_alarms
        self._check_quota, self._on_stopped = check_quota, on_stopped
        self.by_name: dict[str, Endpoint] = {}

    def create(self, request: Request) -> Response:
        """Answer CreateEndpoint: start the endpoint in the background."""
        name = request["EndpointName"]
        arn = self._arn(name)
        # Names have no case here; a call must have that of the name.
        if arn in {endpoint.arn for endpoint in self.by_name.values()}:
            raise AwsError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
        config = self._configs.get(request["EndpointConfigName"])
        check_policies(request.get("DeploymentConfig", {}))
        self._check_quota(self._in_use(), instances_of(config, {}))
        self._tags.set_requested(arn, request)
        endpoint = Endpoint(
            name,
            arn,
            request["EndpointConfigName"],
            config,
            build_fleets=lambda config, counts: self._build_fleets(name, config, counts),
            in_alarm=self._in_alarm,
            clock=self._clock,
            log=self._context.log,
            deployment=request.get("DeploymentConfig", {}),
        )
        self.by_name[name] = endpoint
        self._tag_simulated(endpoint, config)
        endpoint.create()
        return {"EndpointArn": arn}

    def describe(self, request: Request) -> Response:
        """Answer DescribeEndpoint."""
        endpoint = self._get(request["EndpointName"])
        response: Response = {
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
                    "DesiredInstanceCount": fleet.desired,
                }
                for fleet in endpoint.fleets
            ],
        }
        if endpoint.failure_reason:
            response["FailureReason"] = endpoint.failure_reason[:1024]
        if endpoint.deployment:
            response["LastDeploymentConfig"] = endpoint.deployment
        if _ASYNC in endpoint.config:
            response[_ASYNC] = endpoint.config[_ASYNC]
        if capture := endpoint.config.get("DataCaptureConfig"):
            response["DataCaptureConfig"] = _summarize_capture(capture)
        return response

    def list_page(self, request: Request) -> Response:
        """Answer ListEndpoints."""
        summaries = [
            {
                "EndpointName": endpoint.name,
                "EndpointArn": endpoint.arn,
                "CreationTime": endpoint.created,
                "LastModifiedTime": endpoint.modified,
                "EndpointStatus": endpoint.status,
            }
            for endpoint in list(self.by_name.values())
            if request.get("StatusEquals") in (None, endpoint.status)
        ]
        return summarize("Endpoints", "Endpoint", summaries, request)

    def update(self, request: Request) -> Response:
        """Answer UpdateEndpoint: exchange the configuration in the background."""
        endpoint = self._get_settled(request["EndpointName"])
        config = self._configs.get(request["EndpointConfigName"])
        self._check_update(endpoint, request["EndpointConfigName"], config)
        counts = _retained_counts(endpoint, request)
        deployment = request.get("DeploymentConfig", {})
        if request.get("RetainDeploymentConfig"):
            deployment = endpoint.deployment
        instances = instances_of(config, counts)
        check_policies(deployment)
        check_sizes(deployment, sum(instances.values()))
        self._check_quota(self._in_use(), started_beside(deployment, instances))
        self._check_alarms(alarm_names(deployment), config)
        self._tag_simulated(endpoint, config)
        endpoint.update(request["EndpointConfigName"], config, deployment, counts)
        return {"EndpointArn": endpoint.arn}

    def update_weights_and_capacities(self, request: Request) -> Response:
        """Answer UpdateEndpointWeightsAndCapacities: change instance counts and shares of the calls."""
        endpoint = self._get_settled(request["EndpointName"])
        fleets = {fleet.variant: fleet for fleet in endpoint.fleets}
        counts = {}
        for change in request["DesiredWeightsAndCapacities"]:
            fleet = fleets.get(change["VariantName"])
            if fleet is None:
                raise AwsError(
                    "ValidationException", f"The variant {change['VariantName']} is not in the endpoint."
                )
            if "DesiredWeight" in change:
                fleet.weight = float(change["DesiredWeight"])
                for route in endpoint.routes:
                    route.weight = route.fleet.weight
            if "DesiredInstanceCount" in change:
                minimum = 0 if _ASYNC in endpoint.config else 1
                if change["DesiredInstanceCount"] < minimum:
                    raise AwsError("ValidationException", f"DesiredInstanceCount must be at least {minimum}.")
                counts[fleet.variant] = int(change["DesiredInstanceCount"])
        added: Counter[str] = Counter()
        for variant, count in counts.items():
            added[fleets[variant].instance_type] += count - fleets[variant].desired
        self._check_quota(self._in_use(), added)
        endpoint.resize(counts)
        return {"EndpointArn": endpoint.arn}

    def delete(self, request: Request) -> Response:
        """Answer DeleteEndpoint; the endpoint is listed until all of its processes have ended."""
        endpoint = self._get(request["EndpointName"])
        if endpoint.status != "Deleting":
            self._get_settled(endpoint.name)
            endpoint.status = "Deleting"
            threading.Thread(target=self._delete, args=(endpoint,), daemon=True).start()
        return {}

    def close(self) -> None:
        """Delete all endpoints and wait for it."""
        threads = [threading.Thread(target=endpoint.delete) for endpoint in list(self.by_name.values())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _delete(self, endpoint: Endpoint) -> None:
        try:
            endpoint.delete()
            self._on_stopped(endpoint.name)
        finally:
            # Even after an error: clients wait until the endpoint is gone.
            self._tags.forget(endpoint.arn)
            self.by_name.pop(endpoint.name, None)

    def _build_fleets(self, name: str, config: Mapping[str, Any], counts: Mapping[str, int]) -> list[Fleet]:
        fleets = []
        for variant in config["ProductionVariants"]:
            count = counts.get(variant["VariantName"], int(variant.get("InitialInstanceCount", 1)))
            model = self._models.find(variant["ModelName"])
            role = ExecutionRole(str(model.get("ExecutionRoleArn")), self._arn(name))
            fleets.append(Fleet(self._context, name, variant, model, count, role))
        return fleets

    def _in_use(self) -> Counter[str]:
        """The instances of all endpoints, by type."""
        used: Counter[str] = Counter()
        for endpoint in list(self.by_name.values()):
            used.update(endpoint.instances)
        return used

    def _tag_simulated(self, endpoint: Endpoint, config: Mapping[str, Any]) -> None:
        """Tag an endpoint with what is simulated."""
        for variant in config["ProductionVariants"]:
            notice = model_data.read_notice(uri_of(self._models.find(variant["ModelName"])))
            value = notice or "rehearsal: on this machine, not on AWS"
            self._tags.set(endpoint.arn, {"inf2kit:rehearsal": value[:256]})

    def _check_update(self, endpoint: Endpoint, config_name: str, config: Mapping[str, Any]) -> None:
        if endpoint.status == "Failed":
            raise AwsError("ValidationException", f'Cannot update failed endpoint "{endpoint.arn}".')
        if config_name == endpoint.config_name:
            raise AwsError(
                "ValidationException",
                "Cannot update endpoint with the currently in use endpoint configuration "
                f'"{endpoint.config_name}".',
            )
        instance_types = {fleet.variant: fleet.instance_type for fleet in endpoint.fleets}
        targets = self._list_targets()
        for variant in config["ProductionVariants"]:
            name, instance_type = variant["VariantName"], variant.get("InstanceType")
            is_target = f"endpoint/{endpoint.name}/variant/{name}" in targets
            if is_target and instance_types.get(name, instance_type) != instance_type:
                raise AwsError(
                    "ValidationException",
                    f"The variant {name} is registered as a scalable target; deregister it before its "
                    "instance type is changed.",
                )
        if (_ASYNC in endpoint.config) != (_ASYNC in config):
            verb = "removed from" if _ASYNC in endpoint.config else "added to"
            raise AwsError(
                "ValidationException",
                f"The {_ASYNC} parameter cannot be {verb} this endpoint {endpoint.name}. To change it, "
                "delete the endpoint and create it again.",
            )

    def _check_alarms(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Check that the roll-back alarms exist, and that the execution role may read them."""
        missing = sorted(set(names) - self._list_alarms())
        if missing:
            raise AwsError("ValidationException", f"The alarms {', '.join(missing)} do not exist.")
        for variant in config["ProductionVariants"]:
            role = ExecutionRole(
                str(self._models.find(variant["ModelName"]).get("ExecutionRoleArn")), self._arn_prefix
            )
            for name in names:
                arn = f"{self._arn_prefix.replace(':sagemaker:', ':cloudwatch:')}:alarm:{name}"
                if not role.allows("cloudwatch:DescribeAlarms", arn):
                    raise AwsError(
                        "ValidationException",
                        f"The role {role.role_arn} may not perform cloudwatch:DescribeAlarms on {arn}, which "
                        "the roll-back needs.",
                    )

    def _get(self, name: str) -> Endpoint:
        endpoint = self.by_name.get(name)
        if endpoint is None:
            raise AwsError("ValidationException", f'Could not find endpoint "{self._arn(name)}".')
        return endpoint

    def _get_settled(self, name: str) -> Endpoint:
        endpoint = self._get(name)
        if endpoint.status not in SETTLED:
            raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def _arn(self, name: str) -> str:
        return f"{self._arn_prefix}:endpoint/{name.lower()}"


def _retained_counts(endpoint: Endpoint, request: Request) -> dict[str, int]:
    """The instance counts of the variants that keep their number in an update."""
    excluded = {item["VariantPropertyType"] for item in request.get("ExcludeRetainedVariantProperties", [])}
    if excluded and not request.get("RetainAllVariantProperties"):
        raise AwsError(
            "ValidationException", "ExcludeRetainedVariantProperties needs RetainAllVariantProperties."
        )
    if not request.get("RetainAllVariantProperties") or "DesiredInstanceCount" in excluded:
        return {}
    return {fleet.variant: fleet.desired for fleet in endpoint.fleets}


def _summarize_capture(config: Mapping[str, Any]) -> Response:
    """A DataCaptureConfigSummary, whose every member is required."""
    return {
        "EnableCapture": config.get("EnableCapture", False),
        "CaptureStatus": "Started" if config.get("EnableCapture") else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
