"""Application Auto Scaling for endpoints: evaluates the targets and policies that moto stores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moto.applicationautoscaling.models import applicationautoscaling_backends

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.metrics import NAMESPACE, Metrics, statistic
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet
from inf2kit.rehearsal.cloud.sagemaker.operations import SageMaker

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
#: Seconds of the metric before target tracking scales out (three values of a high-resolution metric) and in
#: (15 minutes), and the share of the target below which it scales in.
_SCALE_OUT_S, _SCALE_IN_S, _SCALE_IN_SHARE = 30, 900, 0.9
#: Application Auto Scaling's default cool-down.
_COOLDOWN_S = 300


@dataclass
class _Activity:
    """The times of a policy's last scaling activities, on the monotonic clock."""

    scaled_out_at: float = float("-inf")
    scaled_in_at: float = float("-inf")
    created_at: float = field(default_factory=time.monotonic)

    def record(self, *, out: bool) -> None:
        """Begin a cool-down."""
        if out:
            self.scaled_out_at = time.monotonic()
        else:
            self.scaled_in_at = time.monotonic()


class AutoScaling:
    """Scales the variants of endpoints.

    Args:
        account: The account of the targets.
        region: The region of the targets.
        clock: Shortens periods and cool-downs.
        metrics: The metrics that policies track.
        sagemaker: Returns the service that has the endpoints.
        log: Writes a line to the cloud's log.
    """

    def __init__(
        self,
        account: str,
        region: str,
        clock: Clock,
        metrics: Metrics,
        sagemaker: Callable[[], SageMaker],
        log: Callable[[str], None],
    ) -> None:
        self._account, self._region = account, region
        self._clock, self._metrics, self._sagemaker, self._log = clock, metrics, sagemaker, log
        self._activities: dict[str, _Activity] = {}

    def list_targets(self) -> set[str]:
        """List the resource ids of all scalable targets."""
        return set(self._targets())

    def evaluate(self) -> None:
        """Apply the bounds and the target-tracking policies of every target."""
        for resource_id, target in list(self._targets().items()):
            variant = self._find_variant(resource_id)
            if variant is None:
                continue
            endpoint, fleet = variant
            if endpoint.status != "InService":
                continue
            before = fleet.desired
            count = _bounded(self._desired_count(resource_id, endpoint, fleet), target)
            if count != before and self._scale(endpoint, fleet, count):
                for activity in self._list_activities(resource_id):
                    activity.record(out=count > before)

    def run_step_policy(self, policy_arn: str) -> None:
        """Run a step-scaling policy whose alarm is in ALARM."""
        for policy in list(self._backend().policies.values()):
            if policy.policy_arn != policy_arn:
                continue
            variant = self._find_variant(policy.resource_id)
            target = self._targets().get(policy.resource_id)
            config = policy.step_scaling_policy_configuration or {}
            steps = config.get("StepAdjustments", [])
            activity = self._activities.setdefault(policy_arn, _Activity())
            cooldown_s = self._clock.shorten(float(config.get("Cooldown", _COOLDOWN_S)))
            if time.monotonic() - activity.scaled_out_at < cooldown_s:
                continue
            if variant and target and steps and config.get("AdjustmentType") == "ChangeInCapacity":
                endpoint, fleet = variant
                count = _bounded(fleet.desired + int(steps[0]["ScalingAdjustment"]), target)
                if count != fleet.desired and self._scale(endpoint, fleet, count):
                    activity.record(out=True)

    def _list_activities(self, resource_id: str) -> list[_Activity]:
        """List the activities of a target's tracking policies."""
        return [
            self._activities[key]
            for key, policy in list(self._backend().policies.items())
            if policy.resource_id == resource_id and key in self._activities
        ]

    def _desired_count(self, resource_id: str, endpoint: Endpoint, fleet: Fleet) -> int:
        """Compute the largest count of all tracking policies.

        All that may scale in must agree before the fleet shrinks. A policy that may not, leaves that to them.
        """
        counts = []
        for key, policy in list(self._backend().policies.items()):
            config = policy.target_tracking_scaling_policy_configuration
            if policy.resource_id != resource_id or not config or not fleet.desired:
                continue
            activity = self._activities.setdefault(key, _Activity())
            count = self._track(config, activity, endpoint, fleet)
            if count > fleet.desired or not config.get("DisableScaleIn"):
                counts.append(count)
        return max(counts, default=fleet.desired)

    def _track(self, config: dict[str, Any], activity: _Activity, endpoint: Endpoint, fleet: Fleet) -> int:
        """Compute the count of one target-tracking policy."""
        now, target = time.monotonic(), float(config["TargetValue"])
        shorten = self._clock.shorten
        value = self._value(config, endpoint, fleet, shorten(_SCALE_OUT_S))
        cooldown_s = shorten(float(config.get("ScaleOutCooldown", _COOLDOWN_S)))
        if value is not None and value > target and now - activity.scaled_out_at >= cooldown_s:
            return math.ceil(fleet.desired * value / target)
        last = max(activity.created_at, activity.scaled_out_at, activity.scaled_in_at)
        wait_s = max(shorten(float(config.get("ScaleInCooldown", _COOLDOWN_S))), shorten(_SCALE_IN_S))
        if now - last >= wait_s and not config.get("DisableScaleIn"):
            highest = self._value(config, endpoint, fleet, shorten(_SCALE_IN_S), "Maximum")
            # Without data a policy does not scale in.
            if highest is not None and highest < _SCALE_IN_SHARE * target and fleet.desired > 1:
                return max(math.ceil(fleet.desired * highest / target), 1)
        return fleet.desired

    def _value(
        self, config: dict[str, Any], endpoint: Endpoint, fleet: Fleet, seconds: float, name: str = ""
    ) -> float | None:
        """Compute the value that a policy tracks, per instance; None without data.

        Args:
            config: The target-tracking configuration.
            endpoint: The endpoint.
            fleet: The fleet of the variant.
            seconds: The length of the period, which ends now.
            name: The statistic; empty means the metric's own.
        """
        now = float(int(time.time()) + 1)
        start = now - max(1.0, seconds)
        variant = {"EndpointName": endpoint.name, "VariantName": fleet.variant}
        predefined = config.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType", "")
        if predefined.startswith("SageMakerVariantConcurrentRequestsPerModel"):
            data = self._metrics.between("ConcurrentRequestsPerModel", variant, start, now)
            value = statistic(data, name or "Average")
            return None if value is None else value / max(1, fleet.size)
        if predefined == "SageMakerVariantInvocationsPerInstance":
            data = self._metrics.between("Invocations", variant, now - self._clock.shorten(60), now)
            return (statistic(data, "Sum") or 0.0) / max(1, fleet.size)
        custom = config.get("CustomizedMetricSpecification", {})
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in custom.get("Dimensions", [])}
        data = self._metrics.between(
            custom.get("MetricName", ""), dimensions, start, now, custom.get("Namespace", NAMESPACE)
        )
        return statistic(data, name or custom.get("Statistic", "Average"))

    def _scale(self, endpoint: Endpoint, fleet: Fleet, count: int) -> bool:
        """Ask SageMaker for another number of instances; False if it refuses."""
        before = fleet.desired
        request = {
            "EndpointName": endpoint.name,
            "DesiredWeightsAndCapacities": [{"VariantName": fleet.variant, "DesiredInstanceCount": count}],
        }
        try:
            self._sagemaker().call("UpdateEndpointWeightsAndCapacities", request)
        except AwsError:
            # Another change of the endpoint has begun; the next evaluation tries again.
            return False
        self._log(f"{endpoint.name}: scaling from {before} to {count} instances")
        return True

    def _find_variant(self, resource_id: str) -> tuple[Endpoint, Fleet] | None:
        _, name, _, variant = resource_id.split("/")
        endpoint = self._sagemaker().endpoints.get(name)
        for fleet in endpoint.fleets if endpoint else []:
            if fleet.variant == variant and endpoint:
                return endpoint, fleet
        return None

    def _targets(self) -> dict[str, Any]:
        targets: dict[str, Any] = self._backend().targets.get(_DIMENSION, {})
        return targets

    def _backend(self) -> Any:
        return applicationautoscaling_backends[self._account][self._region]


def _bounded(count: int, target: Any) -> int:
    return int(min(max(count, target.min_capacity), target.max_capacity))
