"""What somebody should hear of: errors, slowness, a full or broken engine, and an idle one that costs."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from inf2kit.cdk import log_metrics
from inf2kit.cdk.props import EndpointProps
from inf2kit.names import stack_name

#: The name of the only variant.
VARIANT = "main"
_HOSTING, _INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
_MICROSECONDS = 1_000_000
_MINUTE_S, _HOUR_S = 60, 3600
#: What lasts shows in three of five minutes, as calls may be rarer than one a minute.
_LASTING, _OF_MINUTES = 3, 5
#: A text that was cut off took at least this share of its deadline.
_CUT_OFF = 0.95
#: Seconds of an asynchronous call beyond its deadline that are no waiting for a row yet.
_ASYNC_WAIT_S = 900
_EVENTS = {
    "EngineEnded": "The engine ended; its instance answers nothing until the model is loaded anew.",
    "EngineStuck": "The device made no progress, and the engine was killed: its stacks are in the log.",
    "DeviceAwaited": "An engine waits for NeuronCores that another process holds.",
    "LoadFailed": "The model cannot be loaded, and nothing tries again: the reason is in the log.",
}


class Alarms(Construct):
    """The alarms of an endpoint and the topic they write to.

    An alarm names the endpoint by its literal name: the endpoint lists the rollback alarms, so an alarm that
    asked the endpoint for its name would be a cycle.

    Attributes:
        topic: Where all alarms write.
        rollback: Those that undo an update.
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
        if props.min_instances:
            self._idle()

    def rollback_names(self) -> list[str]:
        """The names of the alarms that undo an update."""
        return [str(alarm.alarm_name) for alarm in self.rollback]

    def _topic(self) -> sns.Topic:
        props, stack = self._props, Stack.of(self)
        topic = sns.Topic(self, "Topic", display_name=f"inf2kit: {props.endpoint_name}", enforce_ssl=True)
        if props.log_kms_key_arn:
            cfn_topic = topic.node.default_child
            assert isinstance(cfn_topic, sns.CfnTopic)  # noqa: S101
            cfn_topic.kms_master_key_id = props.log_kms_key_arn
        alarms = f"arn:{stack.partition}:cloudwatch:{stack.region}:{stack.account}:alarm:"
        # A policy of the topic's own replaces SNS's default one, by which alarms may write to it.
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
        """Server errors, as a share of the calls: many in one minute, or a few that go on."""
        props, query = self._props, self._query
        refused = query("refused", "Sum", self._hosting("Invocation4XXErrors"))
        if props.asynchronous:
            # Which of these is left out at zero is not documented, nor whether a failed call counts as
            # processed. At worst a share is half of what it is.
            queries = [
                query("errors", "Sum", self._hosting("InvocationFailures")),
                refused,
                query("processed", "Sum", self._hosting("InvocationsProcessed")),
            ]
            failed, calls = "(errors - FILL(refused, 0))", "(FILL(processed, 0) + errors)"
        else:
            # Only InvocationModelErrors has what ends without a status, such as time-outs and closed sockets.
            # It has every 4xx, too, among them the 429 of a full queue. Each call is a sample of both.
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
                f"{count} server errors within a minute, and {percent} % of its calls. A 429 is none.",
                metrics=[*queries, _expression(f"IF({failed} >= {count}, {share}, 0)", "percent of many")],
                threshold=percent,
                periods=1,
            ),
            self._alarm(
                "ErrorRate",
                f"{percent} % of the calls are server errors in {_LASTING} of {_OF_MINUTES} minutes, "
                "however few calls there are.",
                metrics=[*queries, _expression(share, "percent")],
                threshold=percent,
                periods=_OF_MINUTES,
                of_them=_LASTING,
            ),
        ]

    def _latency(self) -> cloudwatch.CfnAlarm:
        return self._alarm(
            "Latency",
            "Half of the calls take as long as a call may: texts are cut off at the deadline.",
            extended_statistic="p50",
            # One sample counts: an endpoint with one row ends one such text a minute.
            evaluate_low_sample_count_percentile="evaluate",
            threshold=_CUT_OFF * self._props.preset.serving.deadline_s * _MICROSECONDS,
            periods=_OF_MINUTES,
            of_them=_LASTING,
            **self._hosting("ModelLatency"),
        )

    def _saturation(self) -> None:
        props = self._props
        if props.asynchronous:
            self._alarm(
                "Saturation",
                "Calls wait for a quarter of an hour longer than a call may take: more instances are needed.",
                statistic="Maximum",
                # The oldest request may be one that is being answered.
                threshold=props.async_deadline_s + _ASYNC_WAIT_S,
                periods=5,
                **self._hosting("ApproximateAgeOfOldestRequest", of_variant=False),
            )
            return
        rows, queue = props.preset.shapes.batch_size, props.queue_size
        self._alarm(
            "Saturation",
            f"Texts take all {rows} rows of an instance and half of its queue of {queue}; soon calls are "
            "refused (429).",
            statistic="Maximum",
            threshold=rows + max(1, queue // 2),
            periods=5,
            **self._logged(log_metrics.TEXTS_INSIDE),
        )

    def _idle(self) -> None:
        props, price, query = self._props, self._props.usd_per_hour, self._query
        cost = "" if price is None else f" It costs about ${price[0]:.2f} an hour ({price[1]}, an estimate)."
        # An asynchronous endpoint has no Invocations.
        calls = self._hosting("InvocationsProcessed" if props.asynchronous else "Invocations")
        # Whether a streamed call is an invocation is not documented. Its texts are seen in any case.
        texts = self._logged(log_metrics.TEXTS_INSIDE)
        # There only while an instance runs: hours before the first deployment are not idle ones.
        running = {**self._hosting("CPUUtilization"), "namespace": _INSTANCES}
        self._alarm(
            "IdleMoney",
            f"Nobody has called {props.endpoint_name} for {props.idle_hours} hours.{cost} "
            f"Stop it with: cdk destroy {stack_name(props.preset.name, props.stage)}",
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
        of_them: int | None = None,
        comparison: str = "GreaterThanOrEqualToThreshold",
        **watched: Any,
    ) -> cloudwatch.CfnAlarm:
        return cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_name=f"{self._props.endpoint_name}-{construct_id}",
            alarm_description=description,
            evaluation_periods=periods,
            datapoints_to_alarm=of_them,
            threshold=threshold,
            comparison_operator=comparison,
            # No call is no fault.
            treat_missing_data="notBreaching",
            alarm_actions=[self.topic.topic_arn],
            **watched,
        )

    def _hosting(self, metric: str, *, of_variant: bool = True) -> dict[str, Any]:
        """One of SageMaker's own metrics, of a minute."""
        dimensions = self._dimensions()[: 2 if of_variant else 1]
        return {"namespace": _HOSTING, "metric_name": metric, "dimensions": dimensions, "period": _MINUTE_S}

    def _logged(self, metric: str) -> dict[str, Any]:
        """A metric from the log, of a minute."""
        name = log_metrics.metric_name(metric, self._props.endpoint_name)
        return {"namespace": log_metrics.NAMESPACE, "metric_name": name, "period": _MINUTE_S}

    def _query(
        self, query_id: str, statistic: str, watched: dict[str, Any], period_s: int = _MINUTE_S
    ) -> Any:
        """A metric as a part of an expression."""
        of = cloudwatch.CfnAlarm
        metric = {name: value for name, value in watched.items() if name != "period"}
        return of.MetricDataQueryProperty(
            id=query_id,
            return_data=False,
            metric_stat=of.MetricStatProperty(
                metric=of.MetricProperty(**metric), period=period_s, stat=statistic
            ),
        )

    def _dimensions(self) -> list[Any]:
        of = cloudwatch.CfnAlarm.DimensionProperty
        return [
            of(name="EndpointName", value=self._props.endpoint_name),
            of(name="VariantName", value=VARIANT),
        ]


def _expression(text: str, label: str) -> Any:
    """What an alarm with several metrics looks at."""
    return cloudwatch.CfnAlarm.MetricDataQueryProperty(id="value", expression=text, label=label)
