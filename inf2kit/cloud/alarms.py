"""CloudWatch alarms that follow the endpoints' metrics. moto keeps alarms, but never looks at a metric."""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.sns.models import sns_backends

from inf2kit.cloud.clock import Clock
from inf2kit.cloud.metrics import Metrics, statistic

_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
#: What a period without data counts as.
_MISSING = {"notBreaching": False, "breaching": True}


class Alarms:
    """Sets the state of moto's alarms.

    Args:
        account: Of the alarms.
        region: Of the alarms.
        metrics: What they look at.
        clock: A period is as long as it says.
        scale: Called with the ARN of a scaling policy whose alarm went off.
    """

    def __init__(
        self, account: str, region: str, metrics: Metrics, clock: Clock, scale: Callable[[str], None]
    ) -> None:
        self._account, self._region = account, region
        self._metrics, self._clock, self._scale = metrics, clock, scale

    def on(self, names: Sequence[str]) -> list[str]:
        """Those of some alarms that are in ALARM; looked at now."""
        wanted = set(names)
        for alarm in self._all():
            if alarm.name in wanted:
                self._look(alarm)
        return [alarm.name for alarm in self._all() if alarm.name in wanted and alarm.state_value == "ALARM"]

    def look(self) -> None:
        """Look at every alarm."""
        for alarm in self._all():
            self._look(alarm)

    def _all(self) -> list[Any]:
        return list(cloudwatch_backends[self._account][self._region].alarms.values())

    def _look(self, alarm: Any) -> None:
        state, reason = self._state(alarm)
        if state is None:
            return
        if state == alarm.state_value:
            # A scaling policy is called as long as its alarm is on; its own cool-down keeps it from more.
            for action in (alarm.alarm_actions or []) if state == "ALARM" else []:
                if ":scalingPolicy:" in action:
                    self._scale(action)
            return
        alarm.update_state(reason, "{}", state)
        if alarm.actions_enabled:
            actions = {
                "ALARM": alarm.alarm_actions,
                "OK": alarm.ok_actions,
                "INSUFFICIENT_DATA": alarm.insufficient_data_actions,
            }[state]
            for action in actions or []:
                self._act(action, alarm, state, reason)

    def _state(self, alarm: Any) -> tuple[str | None, str]:
        if alarm.metric_data_queries or not alarm.metric_name:
            return "INSUFFICIENT_DATA", "metric math is not computed in this rehearsal"
        dimensions = {each.name: each.value for each in alarm.dimensions}
        period_s = self._clock.here(float(alarm.period))
        # A second is the finest that is counted.
        period_s = max(1.0, period_s)
        compare = _COMPARISONS.get(alarm.comparison_operator)
        if compare is None:
            return "INSUFFICIENT_DATA", f"{alarm.comparison_operator} is not computed in this rehearsal"
        now = float(int(time.time()) + 1)
        breaching, seen = 0, []
        for index in range(int(alarm.evaluation_periods)):
            end = now - index * period_s
            seconds = self._metrics.between(
                alarm.metric_name, dimensions, end - period_s, end, alarm.namespace
            )
            value = statistic(seconds, alarm.statistic or alarm.extended_statistic)
            if value is None:
                breaching += bool(_MISSING.get(alarm.treat_missing_data, False))
                continue
            seen.append(value)
            breaching += bool(compare(value, float(alarm.threshold)))
        if not seen and alarm.treat_missing_data == "ignore":
            return None, ""
        if not seen and alarm.treat_missing_data in (None, "missing"):
            return "INSUFFICIENT_DATA", "there is no data"
        needed = int(alarm.datapoints_to_alarm or alarm.evaluation_periods)
        shown = ", ".join(f"{value:g}" for value in seen)
        if breaching >= needed:
            return "ALARM", f"Threshold Crossed: {breaching} datapoints [{shown}] against {alarm.threshold:g}"
        return "OK", f"{breaching} of {needed} datapoints [{shown}] against {alarm.threshold:g}"

    def _act(self, action: str, alarm: Any, state: str, reason: str) -> None:
        if ":sns:" in action:
            # A topic that is gone keeps nobody from being in ALARM.
            with contextlib.suppress(Exception):
                sns_backends[self._account][self._region].publish(
                    f"{alarm.name} is {state}: {reason}", arn=action, subject=f"{state}: {alarm.name}"[:100]
                )
        elif ":scalingPolicy:" in action:
            self._scale(action)
