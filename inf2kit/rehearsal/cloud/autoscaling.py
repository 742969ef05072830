"""Application Auto Scaling for endpoints: moto keeps targets and policies, here they act."""

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
from inf2kit.rehearsal.cloud.sagemaker.operations import Hosting

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
#: What target tracking looks at before it adds (three values of a high-resolution metric), and before it
#: takes away (15 minutes), and the share of the target below which it does.
_OUT_S, _IN_S, _IN_SHARE = 30, 900, 0.9
_COOLDOWN_S = 300


@dataclass
class _Moves:
    """When a policy last moved."""

    out_at: float = float("-inf")
    in_at: float = float("-inf")
    known_since: float = field(default_factory=time.monotonic)

    def moved(self, *, out: bool) -> None:
        """Begin a cool-down."""
        if out:
            self.out_at = time.monotonic()
        else:
            self.in_at = time.monotonic()


class Scaling:
    """Adds and takes away instances.

    Args:
        account: Of the targets.
        region: Of the targets.
        clock: Of the periods and cool-downs.
        metrics: What policies look at.
        hosting: Where the endpoints are.
        say: Tells the cloud's log.
    """

    def __init__(
        self,
        account: str,
        region: str,
        clock: Clock,
        metrics: Metrics,
        hosting: Callable[[], Hosting],
        say: Callable[[str], None],
    ) -> None:
        self._account, self._region = account, region
        self._clock, self._metrics, self._hosting, self._say = clock, metrics, hosting, say
        self._moves: dict[str, _Moves] = {}

    def registered(self) -> set[str]:
        """The resource ids of all scalable targets."""
        return set(self._backend().targets.get(_DIMENSION, {}))

    def look(self) -> None:
        """Follow every target's bounds and tracking policies."""
        for resource_id, target in list(self._backend().targets.get(_DIMENSION, {}).items()):
            found = self._variant(resource_id)
            if found is None:
                continue
            endpoint, fleet = found
            if endpoint.status != "InService":
                continue
            wished = self._tracked(resource_id, endpoint, fleet)
            before, bounded = fleet.wished, min(max(wished, target.min_capacity), target.max_capacity)
            if bounded != before and self._move(endpoint, fleet, bounded):
                for moves in self._moves_of(resource_id):
                    moves.moved(out=bounded > before)

    def step(self, policy_arn: str) -> None:
        """Carry a step policy out, whose alarm went off."""
        for policy in list(self._backend().policies.values()):
            if policy.policy_arn != policy_arn:
                continue
            found = self._variant(policy.resource_id)
            target = self._backend().targets.get(_DIMENSION, {}).get(policy.resource_id)
            configuration = policy.step_scaling_policy_configuration or {}
            steps = configuration.get("StepAdjustments", [])
            moves = self._moves.setdefault(policy_arn, _Moves())
            cooldown_s = self._clock.here(float(configuration.get("Cooldown", _COOLDOWN_S)))
            if time.monotonic() - moves.out_at < cooldown_s:
                continue
            if found and target and steps and configuration.get("AdjustmentType") == "ChangeInCapacity":
                endpoint, fleet = found
                wished = fleet.wished + int(steps[0]["ScalingAdjustment"])
                wished = min(max(wished, target.min_capacity), target.max_capacity)
                if wished != fleet.wished and self._move(endpoint, fleet, wished):
                    moves.moved(out=True)

    def _moves_of(self, resource_id: str) -> list[_Moves]:
        """Of the tracking policies of a target."""
        return [
            self._moves[key]
            for key, policy in list(self._backend().policies.items())
            if policy.resource_id == resource_id and key in self._moves
        ]

    def _tracked(self, resource_id: str, endpoint: Endpoint, fleet: Fleet) -> int:
        """The most instances that a policy asks for, so that all have to agree before one is taken away."""
        asked = []
        for key, policy in list(self._backend().policies.items()):
            configuration = policy.target_tracking_scaling_policy_configuration
            if policy.resource_id != resource_id or not configuration or not fleet.wished:
                continue
            moves = self._moves.setdefault(key, _Moves())
            asked.append(self._track(configuration, moves, endpoint, fleet))
        return max(asked, default=fleet.wished)

    def _track(self, configuration: dict[str, Any], moves: _Moves, endpoint: Endpoint, fleet: Fleet) -> int:
        now, target = time.monotonic(), float(configuration["TargetValue"])
        here = self._clock.here
        value = self._value(configuration, endpoint, fleet, here(_OUT_S))
        out_s = here(float(configuration.get("ScaleOutCooldown", _COOLDOWN_S)))
        if value is not None and value > target and now - moves.out_at >= out_s:
            return math.ceil(fleet.wished * value / target)
        in_s = here(float(configuration.get("ScaleInCooldown", _COOLDOWN_S)))
        quiet = now - max(moves.known_since, moves.out_at, moves.in_at) >= max(in_s, here(_IN_S))
        if quiet and not configuration.get("DisableScaleIn"):
            most = self._value(configuration, endpoint, fleet, here(_IN_S), "Maximum")
            # Without data nothing is taken away.
            if most is not None and most < _IN_SHARE * target and fleet.wished > 1:
                return max(math.ceil(fleet.wished * most / target), 1)
        return fleet.wished

    def _value(
        self, configuration: dict[str, Any], endpoint: Endpoint, fleet: Fleet, seconds: float, name: str = ""
    ) -> float | None:
        """What a policy tracks, per instance."""
        now = float(int(time.time()) + 1)
        start = now - max(1.0, seconds)
        of_variant = {"EndpointName": endpoint.name, "VariantName": fleet.variant}
        predefined = configuration.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType", "")
        if predefined.startswith("SageMakerVariantConcurrentRequestsPerModel"):
            seen = self._metrics.between("ConcurrentRequestsPerModel", of_variant, start, now)
            value = statistic(seen, name or "Average")
            return None if value is None else value / max(1, fleet.size)
        if predefined == "SageMakerVariantInvocationsPerInstance":
            seen = self._metrics.between("Invocations", of_variant, now - self._clock.here(60), now)
            return (statistic(seen, "Sum") or 0.0) / max(1, fleet.size)
        custom = configuration.get("CustomizedMetricSpecification", {})
        dimensions = {each["Name"]: each["Value"] for each in custom.get("Dimensions", [])}
        seen = self._metrics.between(
            custom.get("MetricName", ""), dimensions, start, now, custom.get("Namespace", NAMESPACE)
        )
        return statistic(seen, name or custom.get("Statistic", "Average"))

    def _move(self, endpoint: Endpoint, fleet: Fleet, count: int) -> bool:
        before = fleet.wished
        request = {
            "EndpointName": endpoint.name,
            "DesiredWeightsAndCapacities": [{"VariantName": fleet.variant, "DesiredInstanceCount": count}],
        }
        try:
            self._hosting().answer("UpdateEndpointWeightsAndCapacities", request)
        except AwsError:
            # Somebody changes the endpoint at this moment; the next look tries again.
            return False
        self._say(f"{endpoint.name}: scaling from {before} to {count} instances")
        return True

    def _variant(self, resource_id: str) -> tuple[Endpoint, Fleet] | None:
        _, name, _, variant = resource_id.split("/")
        endpoint = self._hosting().endpoints.get(name)
        for fleet in endpoint.fleets if endpoint else []:
            if fleet.variant == variant and endpoint:
                return endpoint, fleet
        return None

    def _backend(self) -> Any:
        return applicationautoscaling_backends[self._account][self._region]
