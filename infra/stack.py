"""One endpoint and everything it needs."""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import Annotations, CfnOutput, RemovalPolicy, Stack, Tags, region_info
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from inf2kit import facts
from infra import acknowledgements
from infra.alarms import VARIANT, Alarms
from infra.permissions import ExecutionRole, grant_invoke
from infra.props import ASYNC_MARGIN_S, EndpointProps
from infra.rollout import deployment_config
from infra.scaling import Scaling


class EndpointStack(Stack):
    """A preset's endpoint: model, configuration, endpoint, role, alarms, scaling, and where to find it.

    Attributes:
        endpoint_arn: For permissions.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: EndpointProps, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, description=f"inf2kit: {props.preset.description}", **kwargs)
        self._props = props
        where = f"{self.region}:{self.account}"
        self.endpoint_arn = f"arn:{self.partition}:sagemaker:{where}:endpoint/{props.endpoint_name.lower()}"
        log_group = self._log_group()
        alarms = Alarms(self, "Alarms", props=props)
        role = ExecutionRole(
            self,
            "Execution",
            props=props,
            log_group=log_group,
            rollback_alarm_names=alarms.rollback_names(),
        )
        model = self._model(role)
        endpoint = self._endpoint(self._configuration(model), alarms)
        # SageMaker would make the log group by itself, and would keep it for ever.
        endpoint.add_resource_dependency(log_group)
        if props.max_instances > props.min_instances:
            Scaling(self, "Scaling", props=props, endpoint=endpoint)
        self._tell(alarms)
        self._tag()
        acknowledgements.explain(self, props)
        notice = props.package.manifest.notice
        if notice:
            Annotations.of(self).add_warning_v2(
                "inf2kit:rehearsal", f"this package is for rehearsals, not for AWS ({notice})"
            )

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let a role, a user or a function call this endpoint, and no other."""
        return grant_invoke(grantee, self.endpoint_arn, asynchronous=self._props.asynchronous)

    def _log_group(self) -> logs.CfnLogGroup:
        group = logs.CfnLogGroup(
            self,
            "Log",
            log_group_name=f"/aws/sagemaker/Endpoints/{self._props.endpoint_name}",
            retention_in_days=self._props.log_retention_days,
        )
        group.apply_removal_policy(RemovalPolicy.DESTROY)
        return group

    def _model(self, role: ExecutionRole) -> sagemaker.CfnModel:
        props, image = self._props, facts.image()
        account = self.regional_fact(region_info.FactName.DLC_REPOSITORY_ACCOUNT)
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role.role_arn,
            enable_network_isolation=props.network_isolation,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=f"{account}.dkr.ecr.{self.region}.{self.url_suffix}/{image.repository}:{image.tag}",
                environment=props.variables,
                model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(
                    s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                        s3_uri=props.package.uri, s3_data_type="S3Prefix", compression_type="None"
                    )
                ),
            ),
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                subnets=list(props.subnet_ids), security_group_ids=list(props.security_group_ids)
            )
            if props.subnet_ids
            else None,
        )
        # SageMaker checks the role's permissions when the model is made.
        model.node.add_dependency(*role.policies)
        return model

    def _configuration(self, model: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig:
        props = self._props
        variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name=VARIANT,
            model_name=model.attr_model_name,
            instance_type=props.instance_type,
            # An endpoint cannot be made with none; scaling takes the last one away later.
            initial_instance_count=max(1, props.min_instances),
            initial_variant_weight=1.0,
            volume_size_in_gb=props.volume_gb,
            container_startup_health_check_timeout_in_seconds=props.startup_timeout_s,
            model_data_download_timeout_in_seconds=props.download_timeout_s,
            # Without it inf2 starts with an old driver.
            inference_ami_version=facts.image().inference_ami_version,
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
        )
        return sagemaker.CfnEndpointConfig(
            self,
            "Configuration",
            production_variants=[variant],
            kms_key_id=props.kms_key_arn or None,
            async_inference_config=self._asynchronous(),
            data_capture_config=self._data_capture(),
        )

    def _asynchronous(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty | None:
        props, of = self._props, sagemaker.CfnEndpointConfig
        if not props.asynchronous:
            return None
        return of.AsyncInferenceConfigProperty(
            client_config=of.AsyncInferenceClientConfigProperty(
                # Enough that every row is taken, and the next one waits at the door.
                max_concurrent_invocations_per_instance=props.preset.shapes.batch_size + 1
            ),
            output_config=of.AsyncInferenceOutputConfigProperty(
                s3_output_path=f"{props.async_output}answers/",
                s3_failure_path=f"{props.async_output}failures/",
                kms_key_id=props.kms_key_arn or None,
            ),
        )

    def _data_capture(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty | None:
        props, of = self._props, sagemaker.CfnEndpointConfig
        if not props.data_capture_percent:
            return None
        return of.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=props.data_capture_percent,
            destination_s3_uri=props.data_capture_output,
            kms_key_id=props.kms_key_arn or None,
            capture_options=[
                of.CaptureOptionProperty(capture_mode="Input"),
                of.CaptureOptionProperty(capture_mode="Output"),
            ],
        )

    def _endpoint(self, configuration: sagemaker.CfnEndpointConfig, alarms: Alarms) -> sagemaker.CfnEndpoint:
        props = self._props
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=props.endpoint_name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
            # An update keeps the number of instances that scaling has chosen.
            retain_all_variant_properties=props.max_instances > props.min_instances,
            deployment_config=deployment_config(props, alarms.rollback),
        )
        for alarm in alarms.rollback:
            endpoint.add_resource_dependency(alarm)
        return endpoint

    def _tell(self, alarms: Alarms) -> None:
        """Where callers find the endpoint, and what it costs."""
        props, shapes = self._props, self._props.preset.shapes
        found = {
            "endpoint_name": props.endpoint_name,
            "preset": props.preset.name,
            "package": props.package.uri,
            "asynchronous": props.asynchronous,
            "batch_size": shapes.batch_size,
            "sequence_length": shapes.sequence_length,
        }
        if props.asynchronous:
            found["async_input"] = f"{props.async_output}requests/"
            # Callers must ask for it: SageMaker itself gives a call 15 minutes only.
            found["async_invocation_timeout_s"] = props.async_deadline_s + ASYNC_MARGIN_S
        ssm.CfnParameter(
            self,
            "Found",
            name=f"/inf2kit/presets/{props.preset.name}",
            type="String",
            description="Where inf2kit's client finds the endpoint of this preset",
            value=json.dumps(found, sort_keys=True),
        )
        CfnOutput(self, "EndpointName", value=props.endpoint_name)
        CfnOutput(self, "EndpointArn", value=self.endpoint_arn)
        CfnOutput(self, "AlarmTopicArn", value=alarms.topic.topic_arn)
        CfnOutput(self, "EstimatedUsdPerHour", value=self._estimate())

    def _estimate(self) -> str:
        price = self._props.usd_per_hour
        if price is None:
            return "not known; run: inf2kit prices refresh"
        usd, region = price
        instances = max(1, self._props.min_instances)
        return f"{usd:.2f} for {instances} x {self._props.instance_type} in {region} (estimate)"

    def _tag(self) -> None:
        props = self._props
        Tags.of(self).add("inf2kit:preset", props.preset.name)
        Tags.of(self).add("inf2kit:endpoint", props.endpoint_name)
        price = props.usd_per_hour
        if price is not None:
            # On the endpoint only: on the configuration a new price would replace it, and roll the fleet.
            Tags.of(self).add(
                "inf2kit:estimated-usd-per-hour",
                f"{price[0]:.2f}",
                include_resource_types=["AWS::SageMaker::Endpoint"],
            )


class UnusableStack(Stack):
    """A preset's place in ``cdk ls`` while it cannot be deployed; the reason is told to who tries."""

    def __init__(self, scope: Construct, construct_id: str, *, reason: str, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        Annotations.of(self).add_error(reason)
        acknowledgements.explain_empty(self)
