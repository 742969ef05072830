"""How many instances run: by the calls in flight, or by the calls that wait in S3."""

from __future__ import annotations

from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.alarms import VARIANT
from infra.props import EndpointProps

#: Long enough that the first step is seen; short, as a fleet may be back at zero soon after.
_WAKE_COOLDOWN_S = 300
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"


class Scaling(Construct):
    """Target tracking between the fewest and the most instances; from zero, a step of its own."""

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
        # The endpoint by its literal name, as the alarms; so the order has to be said.
        self._target.add_resource_dependency(endpoint)
        self._track()
        if props.min_instances == 0:
            self._wake()

    def _track(self) -> None:
        props = self._props
        property_of = autoscaling.CfnScalingPolicy
        configuration = property_of.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=props.target_concurrency,
            scale_out_cooldown=props.scale_out_cooldown_s,
            scale_in_cooldown=props.scale_in_cooldown_s,
            # Every 10 s, and with calls that stream or wait, which a number of calls a minute leaves out.
            predefined_metric_specification=None
            if props.asynchronous
            else property_of.PredefinedMetricSpecificationProperty(
                predefined_metric_type="SageMakerVariantConcurrentRequestsPerModelHighResolution"
            ),
            customized_metric_specification=property_of.CustomizedMetricSpecificationProperty(
                namespace="AWS/SageMaker",
                metric_name="ApproximateBacklogSizePerInstance",
                dimensions=[
                    property_of.MetricDimensionProperty(name="EndpointName", value=props.endpoint_name)
                ],
                statistic="Average",
            )
            if props.asynchronous
            else None,
        )
        self._policy("Track", "TargetTrackingScaling", tracking=configuration)

    def _wake(self) -> None:
        """From zero there is no instance to divide a backlog by, so tracking never starts one."""
        property_of = autoscaling.CfnScalingPolicy
        policy = self._policy(
            "Wake",
            "StepScaling",
            step=property_of.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Average",
                cooldown=_WAKE_COOLDOWN_S,
                step_adjustments=[
                    property_of.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )
        cloudwatch.CfnAlarm(
            self,
            "Backlog",
            alarm_name=f"{self._props.endpoint_name}-Wake",
            alarm_description="Calls wait and no instance runs: one is started.",
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
