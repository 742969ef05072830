"""Application Auto Scaling for endpoints: evaluates the targets and policies that moto stores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.applicationautoscaling.models import applicationautoscaling_backends

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.metrics import NAMESPACE, Metrics, statistic
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet
from inf2kit.rehearsal.cloud.sagemaker.operations import SageMaker

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
#: The alarms that target tracking creates: each of so many periods in a row must be above the target to scale
#: out, or below this share of it to scale in.
_OUT_PERIODS, _IN_PERIODS, _SCALE_IN_SHARE = 3, 15, 0.9
#: Seconds of their periods. High-resolution metrics scale out faster, and in as slowly as others.
_PERIOD_S, _HIGH_RESOLUTION_S = 60, 10
#: Periods that CloudWatch looks at beyond those of an alarm, where some have no data.
_FURTHER_PERIODS = 2
#: Shortest period of a metric from the containers' logs: they have a line every ten seconds of this machine.
_LOGGED_S = 15.0
#: Application Auto Scaling's default cool-down.
_COOLDOWN_S = 300


@dataclass
class _Activity:
    """The times at which a policy was seen first, and scaled last."""

    created_at: float
    scaled_out_at: float = float("-inf")
    scaled_in_at: float = float("-inf")

    def record(self, now: float, *, out: bool) -> None:
        """Begin a cool-down."""
        if out:
            self.scaled_out_at = now
        else:
            self.scaled_in_at = now


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
                    activity.record(self._metrics.now(), out=count > before)

    def run_step_policy(self, policy_arn: str) -> None:
        """Run a step-scaling policy whose alarm is in ALARM."""
        for policy in list(self._backend().policies.values()):
            if policy.policy_arn != policy_arn:
                continue
            variant = self._find_variant(policy.resource_id)
            target = self._targets().get(policy.resource_id)
            config = policy.step_scaling_policy_configuration or {}
            steps = config.get("StepAdjustments", [])
            now = self._metrics.now()
            activity = self._activities.setdefault(policy_arn, _Activity(now))
            cooldown_s = self._clock.shorten(float(config.get("Cooldown", _COOLDOWN_S)))
            if now - activity.scaled_out_at < cooldown_s:
                continue
            if variant and target and steps and config.get("AdjustmentType") == "ChangeInCapacity":
                endpoint, fleet = variant
                count = _bounded(fleet.desired + int(steps[0]["ScalingAdjustment"]), target)
                if count != fleet.desired and self._scale(endpoint, fleet, count):
                    activity.record(now, out=True)

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
            activity = self._activities.setdefault(key, _Activity(self._metrics.now()))
            count = self._track(config, activity, endpoint, fleet)
            if count > fleet.desired or not config.get("DisableScaleIn"):
                counts.append(count)
        return max(counts, default=fleet.desired)

    def _track(self, config: dict[str, Any], activity: _Activity, endpoint: Endpoint, fleet: Fleet) -> int:
        """Compute the count of one target-tracking policy."""
        now, target = self._metrics.now(), float(config["TargetValue"])
        shorten = self._clock.shorten
        is_high_resolution = _predefined(config).endswith("HighResolution")
        period_s = _HIGH_RESOLUTION_S if is_high_resolution else _PERIOD_S
        values = self._datapoints(config, endpoint, fleet, period_s, _OUT_PERIODS)
        cooldown_s = shorten(float(config.get("ScaleOutCooldown", _COOLDOWN_S)))
        is_above = len(values) == _OUT_PERIODS and min(values) > target
        if is_above and now - activity.scaled_out_at >= cooldown_s:
            return math.ceil(fleet.desired * values[-1] / target)
        last = max(activity.created_at, activity.scaled_out_at, activity.scaled_in_at)
        wait_s = shorten(max(float(config.get("ScaleInCooldown", _COOLDOWN_S)), _IN_PERIODS * _PERIOD_S))
        if now - last >= wait_s and not config.get("DisableScaleIn") and fleet.desired > 1:
            values = self._datapoints(config, endpoint, fleet, _PERIOD_S, _IN_PERIODS)
            # Without data a policy does not scale in.
            if len(values) == _IN_PERIODS and max(values) < _SCALE_IN_SHARE * target:
                return max(math.ceil(fleet.desired * max(values) / target), 1)
        return fleet.desired

    def _datapoints(
        self, config: dict[str, Any], endpoint: Endpoint, fleet: Fleet, period_s: float, count: int
    ) -> list[float]:
        """Compute the values that a policy tracks, per instance, of the newest ``count`` periods with data.

        As CloudWatch does, it looks a little further back where periods have no data. There are fewer values
        if that is not enough.

        Args:
            config: The target-tracking configuration.
            endpoint: The endpoint.
            fleet: The fleet of the variant.
            period_s: Seconds of a period, which the clock shortens.
            count: Number of values.
        """
        dimensions = {"EndpointName": endpoint.name, "VariantName": fleet.variant}
        name, namespace, kind, instances = "", NAMESPACE, "Average", max(1, fleet.size)
        predefined, length_s = _predefined(config), self._clock.shorten(period_s)
        if predefined.startswith("SageMakerVariantConcurrentRequestsPerModel"):
            name = "ConcurrentRequestsPerModel"
        elif predefined == "SageMakerVariantInvocationsPerInstance":
            name, kind = "Invocations", "Sum"
        else:
            custom = config.get("CustomizedMetricSpecification", {})
            dimensions = {dimension["Name"]: dimension["Value"] for dimension in custom.get("Dimensions", [])}
            name, namespace = custom.get("MetricName", ""), custom.get("Namespace", NAMESPACE)
            kind, instances = custom.get("Statistic", "Average"), 1
            if namespace != NAMESPACE:
                length_s = max(length_s, _LOGGED_S)
        count_all = count + _FURTHER_PERIODS
        periods = self._metrics.periods(name, dimensions, length_s, count_all, namespace, aligned=True)
        values = [statistic(seconds, kind) for seconds in periods]
        return [value / instances for value in values if value is not None][-count:]

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


def _predefined(config: dict[str, Any]) -> str:
    """The type of a policy's predefined metric; empty for a customized one."""
    return str(config.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType", ""))


def _bounded(count: int, target: Any) -> int:
    return int(min(max(count, target.min_capacity), target.max_capacity))
