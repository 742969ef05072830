"""The alarms of an endpoint: errors, latency, saturation, engine failures, and the cost of idling."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from inf2kit.cdk import log_metrics
from inf2kit.deployment.props import EndpointProps
from inf2kit.deployment.values import VARIANT

_HOSTING, _INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
_MICROSECONDS = 1_000_000
_MINUTE_S, _HOUR_S = 60, 3600
#: A lasting fault shows in 3 of 5 minutes, as there may be less than one call a minute.
_LASTING_MINUTES, _WATCHED_MINUTES = 3, 5
#: A text that the deadline cut off took at least this share of it.
_CUT_OFF_SHARE = 0.95
#: Minutes in which an engine that ended loads again; a lasting loss shows in each of them.
_RELOAD_MINUTES = 15
#: Seconds beyond its deadline after which an asynchronous call counts as waiting for capacity.
_ASYNC_WAIT_S = 900
_EVENTS = {
    "EngineEnded": "The engine ended; its instance answers no call until the model is loaded again.",
    "EngineStuck": "The device made no progress and the engine was killed; its stack traces are in the log.",
    "DeviceAwaited": "The engine waits for NeuronCores that another process holds.",
    "LoadFailed": "The model cannot be loaded and the engine does not try again; the reason is in the log.",
}

_Alarm = cloudwatch.CfnAlarm


class Alarms(Construct):
    """The alarms of an endpoint and the topic they write to.

    The alarms use the endpoint's literal name. A reference to the endpoint would be a cycle, as the endpoint
    refers to the rollback alarms.

    Attributes:
        topic: The topic that every alarm notifies.
        rollback: The alarms that roll an update back.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: EndpointProps) -> None:
        super().__init__(scope, construct_id)
        self._props = props
        self.topic = self._topic()
        self.rollback = self._errors()
        if not props.asynchronous:
            self.rollback.append(self._latency())
        self._saturation()
        for event, description in _EVENTS.items():
            self._alarm(event, description, statistic="Sum", threshold=1, periods=1, **self._logged(event))
        if props.preset.compute.data_parallel_size > 1:
            self._missing_engine()
        if props.min_instances:
            self._idle()

    def rollback_names(self) -> list[str]:
        """The names of the alarms that roll an update back."""
        return [str(alarm.alarm_name) for alarm in self.rollback]

    def _topic(self) -> sns.Topic:
        props, stack = self._props, Stack.of(self)
        topic = sns.Topic(
            self,
            "Topic",
            display_name=f"inf2kit: {props.endpoint_name}",
            enforce_ssl=True,
            master_key=kms.Key.from_key_arn(self, "TopicKey", props.log_kms_key_arn)
            if props.log_kms_key_arn
            else None,
        )
        alarms = f"arn:{stack.partition}:cloudwatch:{stack.region}:{stack.account}:alarm:"
        # This policy replaces SNS's default, which lets alarms of the account publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Alarms",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": stack.account},
                    "ArnLike": {"aws:SourceArn": f"{alarms}{props.endpoint_name}-*"},
                },
            )
        )
        if props.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(props.alarm_email))
        return topic

    def _errors(self) -> list[cloudwatch.CfnAlarm]:
        """Server errors as a share of the calls: many within a minute, or a lasting share of any number."""
        props, query = self._props, self._query
        refused = query("refused", "Sum", self._hosting("Invocation4XXErrors"))
        if props.asynchronous:
            # It is not documented which of these metrics are missing at zero, and whether a failed call
            # counts as processed. At worst the computed share is half of the real one.
            queries = [
                query("errors", "Sum", self._hosting("InvocationFailures")),
                refused,
                query("processed", "Sum", self._hosting("InvocationsProcessed")),
            ]
            failed, calls = "(errors - FILL(refused, 0))", "(FILL(processed, 0) + errors)"
        else:
            # Only InvocationModelErrors counts calls without a status, such as time-outs and closed sockets.
            # It counts every 4xx as well, including the 429 of a full queue. Each call is a sample of both.
            answers = self._hosting("InvocationModelErrors")
            queries = [query("errors", "Sum", answers), refused, query("calls", "SampleCount", answers)]
            failed, calls = "(errors - refused)", "calls"
        share, count, percent = (
            f"100 * {failed} / {calls}",
            props.max_errors_per_minute,
            props.max_errors_percent,
        )
        return [
            self._alarm(
                "Errors",
                f"{count} server errors within a minute, and {percent} % of its calls. A 429 is not counted.",
                metrics=[*queries, _expression(f"IF({failed} >= {count}, {share}, 0)", "percent of many")],
                threshold=percent,
                periods=1,
            ),
            self._alarm(
                "ErrorRate",
                f"{percent} % of the calls are server errors in {_LASTING_MINUTES} of {_WATCHED_MINUTES} "
                "minutes, however few calls there are.",
                metrics=[*queries, _expression(share, "percent")],
                threshold=percent,
                periods=_WATCHED_MINUTES,
                breaching=_LASTING_MINUTES,
            ),
        ]

    def _latency(self) -> cloudwatch.CfnAlarm:
        return self._alarm(
            "Latency",
            "Half of the calls take as long as the deadline allows: texts are cut off.",
            extended_statistic="p50",
            # A single sample counts: an endpoint with batch size 1 ends one such text a minute.
            evaluate_low_sample_count_percentile="evaluate",
            threshold=_CUT_OFF_SHARE * self._props.preset.serving.deadline_s * _MICROSECONDS,
            periods=_WATCHED_MINUTES,
            breaching=_LASTING_MINUTES,
            **self._hosting("ModelLatency"),
        )

    def _saturation(self) -> None:
        props = self._props
        if props.asynchronous:
            self._alarm(
                "Saturation",
                "The oldest call waits for a quarter of an hour beyond the deadline: add instances.",
                statistic="Maximum",
                # The oldest request may be one that is running.
                threshold=props.async_deadline_s + _ASYNC_WAIT_S,
                periods=5,
                **self._hosting("ApproximateAgeOfOldestRequest", by_variant=False),
            )
            return
        rows, queue_size = props.preset.rows, props.preset.compute.data_parallel_size * props.queue_size
        self._alarm(
            "Saturation",
            f"Texts fill the batch of {rows} and half of the queue of {queue_size} of an instance; "
            "calls are soon refused with 429.",
            statistic="Maximum",
            threshold=rows + max(1, queue_size // 2),
            periods=5,
            **self._logged(log_metrics.TEXTS_INSIDE),
        )

    def _missing_engine(self) -> None:
        engines = self._props.preset.compute.data_parallel_size
        self._alarm(
            "EngineMissing",
            f"One of the {engines} engines of an instance has not served for {_RELOAD_MINUTES} minutes; the "
            "others answer its calls, and the reason is in the log.",
            # Of all instances: the least would be 0 while one of them has all its engines.
            statistic="Maximum",
            threshold=1,
            periods=_RELOAD_MINUTES,
            **self._logged(log_metrics.ENGINES_MISSING),
        )

    def _idle(self) -> None:
        props, price, query = self._props, self._props.usd_per_hour, self._query
        cost = "" if price is None else f" It costs about ${price[0]:.2f} an hour ({price[1]}, an estimate)."
        # An asynchronous endpoint has no Invocations.
        calls = self._hosting("InvocationsProcessed" if props.asynchronous else "Invocations")
        # It is not documented whether a streamed call is an invocation. Its texts are counted in any case.
        texts = self._logged(log_metrics.TEXTS_INSIDE)
        # This metric exists only while an instance runs: hours before the first deployment are not idle.
        running = {**self._hosting("CPUUtilization"), "namespace": _INSTANCES}
        self._alarm(
            "IdleMoney",
            f"No call to {props.endpoint_name} in {props.idle_hours} hours.{cost} "
            f"Delete it with: cdk destroy {Stack.of(self).stack_name}",
            metrics=[
                query("calls", "Sum", calls, _HOUR_S),
                query("texts", "Maximum", texts, _HOUR_S),
                query("running", "SampleCount", running, _HOUR_S),
                _expression("IF(running > 0, FILL(calls, 0) + FILL(texts, 0), 1)", "calls while running"),
            ],
            threshold=0,
            comparison="LessThanOrEqualToThreshold",
            periods=props.idle_hours,
        )

    def _alarm(
        self,
        construct_id: str,
        description: str,
        *,
        threshold: float,
        periods: int,
        breaching: int | None = None,
        comparison: str = "GreaterThanOrEqualToThreshold",
        **metric: Any,
    ) -> cloudwatch.CfnAlarm:
        return cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_name=f"{self._props.endpoint_name}-{construct_id}",
            alarm_description=description,
            evaluation_periods=periods,
            datapoints_to_alarm=breaching,
            threshold=threshold,
            comparison_operator=comparison,
            # A minute without a call is not a fault.
            treat_missing_data="notBreaching",
            alarm_actions=[self.topic.topic_arn],
            **metric,
        )

    def _hosting(self, metric: str, *, by_variant: bool = True) -> dict[str, Any]:
        """A metric of SageMaker, per minute."""
        dimensions = self._dimensions()[: 2 if by_variant else 1]
        return {"namespace": _HOSTING, "metric_name": metric, "dimensions": dimensions, "period": _MINUTE_S}

    def _logged(self, metric: str) -> dict[str, Any]:
        """A metric from the log, per minute."""
        name = log_metrics.metric_name(metric, self._props.endpoint_name)
        return {"namespace": log_metrics.NAMESPACE, "metric_name": name, "period": _MINUTE_S}

    def _query(
        self, query_id: str, statistic: str, metric: dict[str, Any], period_s: int = _MINUTE_S
    ) -> cloudwatch.CfnAlarm.MetricDataQueryProperty:
        """A metric as an operand of an expression."""
        identity = {key: value for key, value in metric.items() if key != "period"}
        return _Alarm.MetricDataQueryProperty(
            id=query_id,
            return_data=False,
            metric_stat=_Alarm.MetricStatProperty(
                metric=_Alarm.MetricProperty(**identity), period=period_s, stat=statistic
            ),
        )

    def _dimensions(self) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
        return [
            _Alarm.DimensionProperty(name="EndpointName", value=self._props.endpoint_name),
            _Alarm.DimensionProperty(name="VariantName", value=VARIANT),
        ]


def _expression(text: str, label: str) -> cloudwatch.CfnAlarm.MetricDataQueryProperty:
    """The value that an alarm on several metrics compares with its threshold."""
    return _Alarm.MetricDataQueryProperty(id="value", expression=text, label=label)
