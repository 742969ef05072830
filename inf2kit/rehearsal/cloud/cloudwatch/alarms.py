"""CloudWatch alarms: moto stores alarms, and this module evaluates them on the endpoints' metrics."""

from __future__ import annotations

import contextlib
import operator
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
#: TreatMissingData: whether a period without data breaches.
_MISSING = {"notBreaching": False, "breaching": True}


class Alarms:
    """Evaluates moto's alarms and runs their actions.

    Args:
        account: The account of the alarms.
        region: The region of the alarms.
        metrics: The metrics that the alarms watch.
        clock: Shortens the periods.
        run_scaling_policy: Called with the ARN of a scaling policy whose alarm is in ALARM.
    """

    def __init__(
        self,
        account: str,
        region: str,
        metrics: Metrics,
        clock: Clock,
        run_scaling_policy: Callable[[str], None],
    ) -> None:
        self._account, self._region = account, region
        self._metrics, self._clock = metrics, clock
        self._run_scaling_policy = run_scaling_policy

    def in_alarm(self, names: Sequence[str]) -> list[str]:
        """Evaluate the named alarms now, and return the names of those in ALARM."""
        alarms = [alarm for alarm in self._list() if alarm.name in names]
        for alarm in alarms:
            self._evaluate(alarm)
        return [alarm.name for alarm in alarms if alarm.state_value == "ALARM"]

    def names(self) -> set[str]:
        """The names of all alarms."""
        return {str(alarm.name) for alarm in self._list()}

    def evaluate(self) -> None:
        """Evaluate every alarm."""
        for alarm in self._list():
            self._evaluate(alarm)

    def _list(self) -> list[Any]:
        return list(cloudwatch_backends[self._account][self._region].alarms.values())

    def _evaluate(self, alarm: Any) -> None:
        try:
            state, reason = self._state(alarm)
        except ValueError as error:
            state, reason = "INSUFFICIENT_DATA", str(error)
        if state is None:
            return
        if state == alarm.state_value:
            # A scaling policy runs for as long as its alarm is in ALARM; its cool-down limits it.
            actions = alarm.alarm_actions if state == "ALARM" and alarm.actions_enabled else []
            for action in actions or []:
                if ":scalingPolicy:" in action:
                    self._run_scaling_policy(action)
            return
        alarm.update_state(reason, "{}", state)
        if alarm.actions_enabled:
            actions = {
                "ALARM": alarm.alarm_actions,
                "OK": alarm.ok_actions,
                "INSUFFICIENT_DATA": alarm.insufficient_data_actions,
            }[state]
            for action in actions or []:
                self._run_action(action, alarm, state, reason)

    def _state(self, alarm: Any) -> tuple[str | None, str]:
        """Compute an alarm's state and the reason; None for the state if it does not change.

        Raises:
            ValueError: the alarm has a comparison, statistic or expression that is not simulated.
        """
        compare = _COMPARISONS.get(alarm.comparison_operator)
        if compare is None:
            raise ValueError(f"{alarm.comparison_operator} is not computed in this rehearsal")
        periods = int(alarm.evaluation_periods)
        if alarm.metric_data_queries:
            values = self._evaluate_queries(alarm.metric_data_queries, periods)
        else:
            data = self._data(alarm, float(alarm.period), periods)
            if self._has_few_samples(alarm, data):
                return None, ""
            values = [statistic(seconds, alarm.statistic or alarm.extended_statistic) for seconds in data]
        treatment = alarm.treat_missing_data
        datapoints = [value for value in values if value is not None]
        if not datapoints and treatment == "ignore":
            return None, ""
        if not datapoints and treatment in (None, "missing"):
            return "INSUFFICIENT_DATA", "there is no data"
        missing_breaches = bool(_MISSING.get(treatment, False))
        breaching = sum(
            missing_breaches if value is None else bool(compare(value, float(alarm.threshold)))
            for value in values
        )
        needed = int(alarm.datapoints_to_alarm or periods)
        shown = ", ".join(f"{value:g}" for value in reversed(datapoints))
        if breaching >= needed:
            return "ALARM", f"Threshold Crossed: {breaching} datapoints [{shown}] against {alarm.threshold:g}"
        return "OK", f"{breaching} of {needed} datapoints [{shown}] against {alarm.threshold:g}"

    def _data(self, metric: Any, period_s: float, periods: int) -> list[list[Second]]:
        """Read the data of a metric for each period, the oldest first."""
        dimensions = {dimension.name: dimension.value for dimension in metric.dimensions}
        length_s = self._clock.shorten(period_s)
        return self._metrics.periods(metric.metric_name, dimensions, length_s, periods, metric.namespace)

    @staticmethod
    def _has_few_samples(alarm: Any, data: list[list[Second]]) -> bool:
        """Whether an alarm ignores its percentile, since it is one of too few samples.

        CloudWatch's documented minimum is ``10 / (1 - p)`` samples for p50 and above, ``10 / p`` below.
        """
        name = alarm.extended_statistic or ""
        if alarm.evaluate_low_sample_count_percentile != "ignore" or not name.startswith("p"):
            return False
        rank = float(name[1:]) / 100
        needed = 10 / min(1 - rank, rank) if 0 < rank < 1 else 0
        return sum(second.count for seconds in data for second in seconds) < needed

    def _evaluate_queries(self, queries: Sequence[Any], periods: int) -> Series:
        """Compute the values of the only query with ReturnData."""
        by_id = {query.id: query for query in queries}
        evaluating: set[str] = set()

        def series_of(name: str) -> Series:
            query = by_id.get(name)
            if query is None or name in evaluating:
                raise ValueError(f"the expression has no metric {name!r}, or one that needs itself")
            if query.metric_stat:
                stat = query.metric_stat
                return [
                    statistic(seconds, stat.stat)
                    for seconds in self._data(stat.metric, float(stat.period), periods)
                ]
            evaluating.add(name)
            values = compute(query.expression, series_of, periods)
            evaluating.discard(name)
            return values

        returned = [query.id for query in queries if str(query.return_data).lower() != "false"]
        if len(returned) != 1:
            raise ValueError("exactly one metric of the alarm must have ReturnData")
        return series_of(returned[0])

    def _run_action(self, action: str, alarm: Any, state: str, reason: str) -> None:
        if ":sns:" in action:
            # A deleted topic must not prevent the change of state.
            with contextlib.suppress(Exception):
                sns_backends[self._account][self._region].publish(
                    f"{alarm.name} is {state}: {reason}", arn=action, subject=f"{state}: {alarm.name}"[:100]
                )
        elif ":scalingPolicy:" in action:
            self._run_scaling_policy(action)
