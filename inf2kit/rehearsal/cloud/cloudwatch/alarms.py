"""CloudWatch alarms that follow the endpoints' metrics. moto keeps alarms, but never looks at a metric."""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends
from moto.sns.models import sns_backends

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.cloudwatch.metric_math import Series, compute
from inf2kit.rehearsal.cloud.cloudwatch.metrics import Metrics, Second, statistic

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
        try:
            state, reason = self._state(alarm)
        except ValueError as error:
            state, reason = "INSUFFICIENT_DATA", str(error)
        if state is None:
            return
        if state == alarm.state_value:
            # A scaling policy is called as long as its alarm is on; its own cool-down keeps it from more.
            repeated = (alarm.alarm_actions or []) if state == "ALARM" and alarm.actions_enabled else []
            for action in repeated:
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
        """The state of an alarm and why; None where it stays as it is.

        Raises:
            ValueError: the alarm needs what is not computed here.
        """
        compare = _COMPARISONS.get(alarm.comparison_operator)
        if compare is None:
            raise ValueError(f"{alarm.comparison_operator} is not computed in this rehearsal")
        periods = int(alarm.evaluation_periods)
        if alarm.metric_data_queries:
            values = self._computed(alarm.metric_data_queries, periods)
        else:
            seen = self._seen(alarm, float(alarm.period), periods)
            if self._too_few(alarm, seen):
                return None, ""
            values = [statistic(seconds, alarm.statistic or alarm.extended_statistic) for seconds in seen]
        treated = alarm.treat_missing_data
        there = [value for value in values if value is not None]
        if not there and treated == "ignore":
            return None, ""
        if not there and treated in (None, "missing"):
            return "INSUFFICIENT_DATA", "there is no data"
        missing = bool(_MISSING.get(treated, False))
        breaching = sum(
            missing if value is None else bool(compare(value, float(alarm.threshold))) for value in values
        )
        needed = int(alarm.datapoints_to_alarm or periods)
        shown = ", ".join(f"{value:g}" for value in reversed(there))
        if breaching >= needed:
            return "ALARM", f"Threshold Crossed: {breaching} datapoints [{shown}] against {alarm.threshold:g}"
        return "OK", f"{breaching} of {needed} datapoints [{shown}] against {alarm.threshold:g}"

    def _seen(self, metric: Any, period_s: float, periods: int) -> list[list[Second]]:
        """What was seen of a metric in each period, the oldest first."""
        dimensions = {each.name: each.value for each in metric.dimensions}
        # A second is the finest that is counted.
        length_s = max(1.0, self._clock.here(period_s))
        now = float(int(time.time()) + 1)
        ends = [now - index * length_s for index in range(periods)][::-1]
        return [
            self._metrics.between(metric.metric_name, dimensions, end - length_s, end, metric.namespace)
            for end in ends
        ]

    @staticmethod
    def _too_few(alarm: Any, seen: list[list[Second]]) -> bool:
        """Whether a percentile of so few calls says nothing, for an alarm that then keeps its state."""
        name = alarm.extended_statistic or ""
        if alarm.evaluate_low_sample_count_percentile != "ignore" or not name.startswith("p"):
            return False
        rank = float(name[1:]) / 100
        needed = 10 / min(1 - rank, rank) if 0 < rank < 1 else 0
        return sum(second.count for seconds in seen for second in seconds) < needed

    def _computed(self, queries: Sequence[Any], periods: int) -> Series:
        """The values of the only query that is returned."""
        by_id = {query.id: query for query in queries}
        open_: set[str] = set()

        def series_of(name: str) -> Series:
            query = by_id.get(name)
            if query is None or name in open_:
                raise ValueError(f"the expression has no metric {name!r}, or one that needs itself")
            if query.metric_stat:
                stat = query.metric_stat
                return [
                    statistic(seconds, stat.stat)
                    for seconds in self._seen(stat.metric, float(stat.period), periods)
                ]
            open_.add(name)
            values = compute(query.expression, series_of, periods)
            open_.discard(name)
            return values

        returned = [query.id for query in queries if str(query.return_data).lower() != "false"]
        if len(returned) != 1:
            raise ValueError("exactly one metric of the alarm must have ReturnData")
        return series_of(returned[0])

    def _act(self, action: str, alarm: Any, state: str, reason: str) -> None:
        if ":sns:" in action:
            # A topic that is gone keeps nobody from being in ALARM.
            with contextlib.suppress(Exception):
                sns_backends[self._account][self._region].publish(
                    f"{alarm.name} is {state}: {reason}", arn=action, subject=f"{state}: {alarm.name}"[:100]
                )
        elif ":scalingPolicy:" in action:
            self._scale(action)
