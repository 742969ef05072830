"""Application Auto Scaling of an endpoint, by the texts in its instances or by the calls that wait in S3."""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from inf2kit.cdk import log_metrics
from inf2kit.deployment.props import EndpointProps
from inf2kit.deployment.values import VARIANT

#: Seconds in which the first step takes effect. Longer would delay the next start from zero.
_WAKE_COOLDOWN_S = 300
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_BACKLOG = "ApproximateBacklogSizePerInstance"

_Policy = autoscaling.CfnScalingPolicy


class Scaling(Construct):
    """The bounds of the number of instances, target tracking between them, and a step policy from zero.

    The bounds are registered even if the endpoint does not scale: an update of the endpoint keeps its number
    of instances, so Application Auto Scaling must apply a changed ``min_instances``.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, props: EndpointProps, endpoint: sagemaker.CfnEndpoint
    ) -> None:
        super().__init__(scope, construct_id)
        self._props = props
        self._target = autoscaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension=_DIMENSION,
            resource_id=f"endpoint/{props.endpoint_name}/variant/{VARIANT}",
            min_capacity=props.min_instances,
            max_capacity=props.max_instances,
        )
        # The target has the endpoint's literal name, so the dependency is not implied.
        self._target.add_resource_dependency(endpoint)
        if props.max_instances > props.min_instances:
            self._track()
        if props.min_instances == 0:
            self._wake()

    def _track(self) -> None:
        """Track the load per instance.

        A call may have many texts. Each instance logs how many texts it runs or has waiting, so the average
        of the samples is the load per instance. A second policy tracks calls: SageMaker measures those every
        ten seconds instead of every minute, but counts a list of texts as one. Auto scaling follows the
        policy that asks for more instances, and removes instances only if both agree.
        """
        props = self._props
        if props.asynchronous:
            self._target_tracking("Track", _customized(_BACKLOG, "AWS/SageMaker", props.endpoint_name))
            return
        texts = log_metrics.metric_name(log_metrics.TEXTS_INSIDE, props.endpoint_name)
        self._target_tracking("Track", _customized(texts, log_metrics.NAMESPACE))
        self._target_tracking(
            "TrackCalls",
            {
                "predefined_metric_specification": _Policy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerVariantConcurrentRequestsPerModelHighResolution"
                )
            },
        )

    def _target_tracking(self, construct_id: str, metric: dict[str, Any]) -> None:
        props = self._props
        configuration = _Policy.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=props.target_concurrency,
            scale_out_cooldown=props.scale_out_cooldown_s,
            scale_in_cooldown=props.scale_in_cooldown_s,
            **metric,
        )
        self._policy(construct_id, "TargetTrackingScaling", tracking=configuration)

    def _wake(self) -> None:
        """Start the first instance, which tracking cannot: at zero a backlog per instance is undefined."""
        policy = self._policy(
            "Wake",
            "StepScaling",
            step=_Policy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Average",
                cooldown=_WAKE_COOLDOWN_S,
                step_adjustments=[
                    _Policy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )
        cloudwatch.CfnAlarm(
            self,
            "Backlog",
            alarm_name=f"{self._props.endpoint_name}-Wake",
            alarm_description="Calls wait and no instance runs: start one.",
            namespace="AWS/SageMaker",
            metric_name="HasBacklogWithoutCapacity",
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name="EndpointName", value=self._props.endpoint_name)
            ],
            statistic="Average",
            period=60,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="missing",
            alarm_actions=[policy.ref],
        )

    def _policy(
        self,
        construct_id: str,
        policy_type: str,
        *,
        tracking: autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty | None = None,
        step: autoscaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty | None = None,
    ) -> autoscaling.CfnScalingPolicy:
        return autoscaling.CfnScalingPolicy(
            self,
            construct_id,
            policy_name=f"{self._props.endpoint_name}-{construct_id}",
            policy_type=policy_type,
            scaling_target_id=self._target.ref,
            target_tracking_scaling_policy_configuration=tracking,
            step_scaling_policy_configuration=step,
        )


def _customized(metric: str, namespace: str, endpoint_name: str | None = None) -> dict[str, Any]:
    """A metric that is already a load per instance."""
    dimension = _Policy.MetricDimensionProperty(name="EndpointName", value=endpoint_name or "")
    return {
        "customized_metric_specification": _Policy.CustomizedMetricSpecificationProperty(
            namespace=namespace,
            metric_name=metric,
            dimensions=[dimension] if endpoint_name else None,
            statistic="Average",
        )
    }
