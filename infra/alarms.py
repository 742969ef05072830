"""What somebody should hear of: errors, slowness, a full endpoint, and an idle one that costs money."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.props import EndpointProps

#: Of the only variant.
VARIANT = "main"
_MICROSECONDS = 1_000_000
_MINUTE_S, _HOUR_S = 60, 3600


class Alarms(Construct):
    """The alarms of an endpoint and the topic they write to.

    An alarm names the endpoint by its literal name: the endpoint lists the rollback alarms, so an alarm that
    asked the endpoint for its name would be a cycle.

    Attributes:
        topic: Of all alarms.
        rollback: Those that undo an update.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: EndpointProps) -> None:
        super().__init__(scope, construct_id)
        self._props = props
        self.topic = sns.Topic(
            self, "Topic", display_name=f"inf2kit: {props.endpoint_name}", enforce_ssl=True
        )
        # A policy of the topic's own replaces SNS's default one, by which alarms may write to it.
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Alarms",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        if props.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(props.alarm_email))
        errors = self._alarm(
            "Errors",
            f"{props.max_errors_per_minute} server errors within a minute; a full queue is none (429).",
            metric="Invocation5XXErrors",
            statistic="Sum",
            threshold=props.max_errors_per_minute,
            minutes=1,
        )
        latency = self._alarm(
            "Latency",
            "Half of the calls take nearly as long as a call may: texts are cut off at the deadline.",
            metric="ModelLatency",
            extended_statistic="p50",
            threshold=0.9 * self._deadline_s() * _MICROSECONDS,
            minutes=3,
        )
        self.rollback = [errors, latency]
        self._saturation()
        if props.min_instances:
            self._idle()

    def rollback_names(self) -> list[str]:
        """The names of the alarms that undo an update."""
        return [str(alarm.alarm_name) for alarm in self.rollback]

    def _deadline_s(self) -> float:
        return (
            self._props.async_deadline_s
            if self._props.asynchronous
            else self._props.preset.serving.deadline_s
        )

    def _saturation(self) -> None:
        props = self._props
        if props.asynchronous:
            self._alarm(
                "Saturation",
                "Calls wait for longer than a quarter of an hour: more instances are needed.",
                metric="ApproximateAgeOfOldestRequest",
                statistic="Maximum",
                threshold=15 * _MINUTE_S,
                minutes=5,
                of_variant=False,
            )
            return
        rows, queue = props.preset.shapes.batch_size, props.queue_size
        self._alarm(
            "Saturation",
            f"All {rows} rows and half of the queue of {queue} are taken; soon calls are refused (429).",
            metric="ConcurrentRequestsPerModel",
            statistic="Maximum",
            threshold=rows + max(1, queue // 2),
            minutes=5,
        )

    def _idle(self) -> None:
        props, price = self._props, self._props.usd_per_hour
        cost = "" if price is None else f" It costs about ${price[0]:.2f} an hour ({price[1]}, an estimate)."
        dimensions = self._dimensions()
        # An asynchronous endpoint has no Invocations.
        calls = "InvocationsProcessed" if props.asynchronous else "Invocations"

        def query(name: str, namespace: str, metric: str, statistic: str) -> Any:
            return cloudwatch.CfnAlarm.MetricDataQueryProperty(
                id=name,
                return_data=False,
                metric_stat=cloudwatch.CfnAlarm.MetricStatProperty(
                    metric=cloudwatch.CfnAlarm.MetricProperty(
                        namespace=namespace, metric_name=metric, dimensions=dimensions
                    ),
                    period=_HOUR_S,
                    stat=statistic,
                ),
            )

        cloudwatch.CfnAlarm(
            self,
            "IdleMoney",
            alarm_name=self._name("IdleMoney"),
            alarm_description=(
                f"Nobody has called {props.endpoint_name} for {props.idle_hours} hours.{cost} "
                f"Stop it with: cdk destroy inf2-{props.preset.endpoint_name}"
            ),
            metrics=[
                query("calls", "AWS/SageMaker", calls, "Sum"),
                # There only while an instance runs: hours before the first deployment are not idle ones.
                query("running", "/aws/sagemaker/Endpoints", "CPUUtilization", "SampleCount"),
                cloudwatch.CfnAlarm.MetricDataQueryProperty(
                    id="idle", expression="IF(running > 0, FILL(calls, 0))", label="calls while running"
                ),
            ],
            comparison_operator="LessThanOrEqualToThreshold",
            threshold=0,
            evaluation_periods=props.idle_hours,
            treat_missing_data="notBreaching",
            alarm_actions=[self.topic.topic_arn],
        )

    def _alarm(
        self,
        construct_id: str,
        description: str,
        *,
        metric: str,
        threshold: float,
        minutes: int,
        statistic: str | None = None,
        extended_statistic: str | None = None,
        of_variant: bool = True,
    ) -> cloudwatch.CfnAlarm:
        return cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_name=self._name(construct_id),
            alarm_description=description,
            namespace="AWS/SageMaker",
            metric_name=metric,
            dimensions=self._dimensions() if of_variant else self._dimensions()[:1],
            statistic=statistic,
            extended_statistic=extended_statistic,
            # A handful of long texts says nothing about the endpoint.
            evaluate_low_sample_count_percentile="ignore" if extended_statistic else None,
            period=_MINUTE_S,
            evaluation_periods=minutes,
            threshold=threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            # No call is no fault.
            treat_missing_data="notBreaching",
            alarm_actions=[self.topic.topic_arn],
        )

    def _dimensions(self) -> list[Any]:
        of = cloudwatch.CfnAlarm.DimensionProperty
        return [
            of(name="EndpointName", value=self._props.endpoint_name),
            of(name="VariantName", value=VARIANT),
        ]

    def _name(self, construct_id: str) -> str:
        return f"{self._props.endpoint_name}-{construct_id}"
