"""Values of automatic scaling, as context of ``cdk deploy``: bounds, the load to aim at, and cool-downs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inf2kit.planning.basis import Errors
from inf2kit.planning.capacity import MOST_INSTANCES, is_enough, least_instances
from inf2kit.planning.prediction import Predictor

#: Seconds until scaling notices a load: three periods of ten seconds above the target, one that has begun,
#: and the evaluation of the alarm.
DETECTION_S = 60
#: Halvings of the interval in which the largest load of an instance lies.
_HALVINGS = 6
#: Bounds of cool-downs that ``cdk deploy`` accepts, and the least before instances are removed.
_LONGEST_OUT_S, _LONGEST_IN_S, _LEAST_IN_S = 3600, 86_400, 900


@dataclass(frozen=True)
class Growth:
    """How the load changes.

    Attributes:
        peak: The busiest load, as a multiple of the demand.
        per_minute: By what share the load may grow in a minute.
        delay_s: Seconds from the decision to add an instance until it answers.
    """

    peak: float = 2.0
    per_minute: float = 0.02
    delay_s: float = 600.0

    @property
    def while_waiting(self) -> float:
        """By what share the load may grow until it is noticed and another instance answers."""
        return self.per_minute * (DETECTION_S + self.delay_s) / 60


@dataclass(frozen=True)
class Scaling:
    """Values for ``cdk deploy -c NAME=VALUE``.

    Attributes:
        min_instances: Enough for the demand while it grows until the next instance answers.
        max_instances: Enough for the peak.
        target_concurrency: Texts that run or wait in an instance, at which the next one is added.
        scale_out_cooldown_s: Until the last added instance answers.
        scale_in_cooldown_s: Long, as an instance that was removed too early takes its whole start to return.
        growth: What they are for.
        is_exact: Whether the load that is aimed at can be a target, which is from one text to all rows. If it
            cannot, the bounds are both the peak's.
    """

    min_instances: int
    max_instances: int
    target_concurrency: float
    scale_out_cooldown_s: int
    scale_in_cooldown_s: int
    growth: Growth
    is_exact: bool

    @property
    def context(self) -> list[str]:
        """The arguments of ``cdk deploy``."""
        names = (
            *("min_instances", "max_instances", "target_concurrency"),
            *("scale_out_cooldown_s", "scale_in_cooldown_s"),
        )
        return [item for name in names for item in ("-c", f"{name}={getattr(self, name):g}")]


def plan(predictor: Predictor, instances: int, errors: Errors, growth: Growth) -> Scaling:
    """Find the values for a demand that ``instances`` instances serve.

    The load that an instance can have is searched with this number of instances behind one router. The target
    is the number of texts inside at that load, less what may come until another instance answers.

    Raises:
        PlanError: the peak needs more instances than an endpoint may have.
    """
    demand = predictor.demand
    amount = float(demand.callers or demand.rate or 0.0)
    low, high = amount, 4 * amount
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if is_enough(predictor.predict(instances, middle), errors):
            low = middle
        else:
            high = middle
    aimed = low / (1 + growth.while_waiting)
    inside = predictor.predict(instances, aimed).inside.value
    rows = predictor.engine.engines * predictor.engine.rows
    target = math.floor(100 * inside) / 100
    needed = math.ceil(instances * amount / aimed) if aimed < amount else instances
    least = min(MOST_INSTANCES, max(instances, needed))
    most = max(least, least_instances(predictor, errors, growth.peak * amount).instances)
    is_exact = 1 <= target <= rows
    return Scaling(
        # Without a target that holds, the bounds must.
        least if is_exact else most,
        most,
        min(max(1.0, target), float(rows)),
        min(_LONGEST_OUT_S, math.ceil(growth.delay_s)),
        min(_LONGEST_IN_S, max(_LEAST_IN_S, math.ceil(2 * growth.delay_s))),
        growth,
        is_exact,
    )
