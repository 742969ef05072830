"""The stack of one endpoint, with everything that it needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from aws_cdk import Annotations, CfnOutput, RemovalPolicy, Stack, Tags, Token, region_info
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from inf2kit import catalog
from inf2kit.catalog.registry import registry_account
from inf2kit.cdk import acknowledgements, statements
from inf2kit.cdk.alarms import Alarms
from inf2kit.cdk.log_metrics import LogMetrics
from inf2kit.cdk.permissions import ExecutionRole, grant_invoke
from inf2kit.cdk.rollout import deployment_config
from inf2kit.cdk.scaling import Scaling
from inf2kit.client.published import PublishedEndpoint
from inf2kit.deployment.checks import ASYNC_MARGIN_S, KEY_OPTIONS, ROLLOUTS
from inf2kit.deployment.props import LONGEST_START_S, EndpointProps
from inf2kit.deployment.values import configuration_values, model_values, tags
from inf2kit.errors import DeploymentError
from inf2kit.names import log_group_name, parameter_name


class EndpointStack(Stack):
    """An endpoint with its model, configuration, execution role, log, alarms and scaling.

    ``inf2kit.Endpoint`` looks up the endpoint's name in a parameter of Systems Manager, which is named
    ``/inf2kit/presets/PRESET``.

    Args:
        scope: The app or a stage of it.
        construct_id: The stack's name.
        props: What to deploy.
        **kwargs: The props of ``aws_cdk.Stack``, such as ``env``.

    Attributes:
        endpoint_arn: The endpoint's ARN, for policies.

    Raises:
        DeploymentError: the stack's region has no image, or a key is in another region.
    """

    def __init__(self, scope: Construct, construct_id: str, *, props: EndpointProps, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, description=f"inf2kit: {props.preset.description}", **kwargs)
        self._props = props
        self._check_stack_region()
        self.endpoint_arn = statements.arn(self, "sagemaker", f"endpoint/{props.endpoint_name.lower()}")
        log_group = self._log_group()
        LogMetrics(
            self,
            "LogMetrics",
            endpoint_name=props.endpoint_name,
            log_group=log_group,
            engines=props.preset.compute.data_parallel_size,
        )
        alarms = Alarms(self, "Alarms", props=props)
        role = ExecutionRole(
            self,
            "Execution",
            props=props,
            log_group=log_group,
            rollback_alarm_names=alarms.rollback_names(),
        )
        model = self._model(role)
        endpoint = self._endpoint(model, alarms)
        # Otherwise SageMaker creates the log group, without an end to its retention.
        endpoint.add_resource_dependency(log_group)
        if props.scalable:
            Scaling(self, "Scaling", props=props, endpoint=endpoint)
        self._publish_endpoint()
        self._output_values(alarms)
        for key, value in tags(props).items():
            Tags.of(self).add(key, value)
        acknowledgements.acknowledge_endpoint(self, props)
        self._add_warnings()

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allow a role, user or function to call this endpoint, and no other endpoint.

        The grantee gets ``InvokeEndpoint`` and ``InvokeEndpointWithResponseStream``, or for an asynchronous
        endpoint ``InvokeEndpointAsync``, its requests and answers in S3 and the use of their keys.

        Args:
            grantee: A construct of this stack or of any other stack of the app, such as a Lambda function.
        """
        return grant_invoke(grantee, self, self.endpoint_arn, self._props)

    def _check_stack_region(self) -> None:
        """Check the region, unless the stack can be deployed to any region."""
        if Token.is_unresolved(self.region):
            return
        registry_account(self.region, DeploymentError)
        for option in KEY_OPTIONS:
            arn = getattr(self._props, option)
            if arn and arn.split(":")[3] != self.region:
                raise DeploymentError(
                    f"{option} is {arn}, and this stack is for {self.region}; give a key of that region"
                )

    def _add_warnings(self) -> None:
        props, warn = self._props, Annotations.of(self).add_warning_v2
        notice = props.package.manifest.notice
        if notice:
            warn("inf2kit:rehearsal", f"this package is for rehearsals, not for AWS ({notice})")
        if not props.rollback:
            warn(
                "inf2kit:rollback",
                f"rollback=false: no alarm rolls back this update of {props.endpoint_name}, even if every "
                "call fails; deploy with rollback again as soon as the endpoint serves",
            )
        if props.load_allowance_s > LONGEST_START_S:
            engines = props.preset.compute.data_parallel_size
            which = f"{engines} engines, one after the other," if engines > 1 else "the model"
            warn(
                "inf2kit:start",
                f"SageMaker waits for {LONGEST_START_S} s at most until the container serves, and the "
                f"allowance for loading {which} is {props.load_allowance_s} s; nobody has measured it. If a "
                "deployment ends with 'did not pass the ping health check' and the log has no error, deploy "
                + ("fewer engines (data_parallel_size)" if engines > 1 else "a smaller model"),
            )
        if props.min_instances >= ROLLOUTS["rolling"] and props.rollout == "all_at_once":
            warn(
                "inf2kit:rollout",
                f"an update of {props.min_instances} instances all at once needs as many again; "
                "-c rollout=rolling replaces a quarter at a time",
            )

    def _log_group(self) -> logs.CfnLogGroup:
        group = logs.CfnLogGroup(
            self,
            "Log",
            log_group_name=log_group_name(self._props.endpoint_name),
            retention_in_days=self._props.log_retention_days,
            kms_key_id=self._props.log_kms_key_arn or None,
        )
        retain = self._props.log_removal == "retain"
        group.apply_removal_policy(RemovalPolicy.RETAIN if retain else RemovalPolicy.DESTROY)
        return group

    def _model(self, role: ExecutionRole) -> sagemaker.CfnModel:
        props, image = self._props, catalog.image()
        account = self.regional_fact(region_info.FactName.DLC_REPOSITORY_ACCOUNT)
        registry = f"{account}.dkr.ecr.{self.region}.{self.url_suffix}"
        uri = f"{registry}/{image.repository}:{image.tag}"
        values = _nested(model_values(props, role.role.role_arn, uri))
        model = sagemaker.CfnModel(self, "Model", **values)
        # SageMaker checks the role's permissions when the model is created.
        model.node.add_dependency(*role.policies)
        return model

    def _configuration(self, model: sagemaker.CfnModel, suffix: str) -> sagemaker.CfnEndpointConfig:
        values = _nested(configuration_values(self._props, model.attr_model_name))
        configuration = sagemaker.CfnEndpointConfig(self, "Configuration", **values)
        configuration.override_logical_id(f"Configuration{suffix}")
        return configuration

    def _endpoint(self, model: sagemaker.CfnModel, alarms: Alarms) -> sagemaker.CfnEndpoint:
        update: dict[str, Any] = {
            # Keep the running number of instances, which Application Auto Scaling chooses.
            "retain_all_variant_properties": True,
            "deployment_config": deployment_config(self._props, alarms.rollback),
        }
        # SageMaker refuses an update to the same configuration. So a change of these properties must replace
        # the configuration too, which a hash of them in its logical id does.
        suffix = hashlib.sha256(json.dumps(self.resolve(update), sort_keys=True).encode()).hexdigest()[:8]
        configuration = self._configuration(model, suffix)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self._props.endpoint_name,
            endpoint_config_name=configuration.attr_endpoint_config_name,
            **update,
        )
        for alarm in alarms.rollback:
            endpoint.add_resource_dependency(alarm)
        return endpoint

    def _publish_endpoint(self) -> None:
        """Write the parameter in which ``inf2kit.Endpoint`` looks up the endpoint of a preset."""
        props, shapes = self._props, self._props.preset.shapes
        is_async = props.asynchronous
        endpoint = PublishedEndpoint(
            endpoint_name=props.endpoint_name,
            preset=props.preset.name,
            package=props.package.uri,
            batch_size=shapes.batch_size,
            sequence_length=shapes.sequence_length,
            engines=props.preset.compute.data_parallel_size,
            instances=props.min_instances,
            asynchronous=is_async,
            async_input=f"{props.async_output}requests/" if is_async else None,
            async_invocation_timeout_s=props.async_deadline_s + ASYNC_MARGIN_S if is_async else None,
        )
        ssm.CfnParameter(
            self,
            "Found",
            name=parameter_name(props.preset.name, props.stage),
            type="String",
            description="Where inf2kit's client finds the endpoint of this preset",
            value=endpoint.to_json(),
        )

    def _output_values(self, alarms: Alarms) -> None:
        """Output the endpoint's name and ARN, the alarms' topic, and the estimated cost."""
        CfnOutput(self, "EndpointName", value=self._props.endpoint_name)
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


class PlaceholderStack(Stack):
    """A stack of a preset that cannot be deployed: ``cdk ls`` lists it, ``cdk deploy`` shows the reason."""

    def __init__(self, scope: Construct, construct_id: str, *, reason: str, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        Annotations.of(self).add_error(reason)
        acknowledgements.acknowledge_empty(self)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name the parts of properties as the library does: Python's names are those of arguments only."""
    return {key: _camel_case(value) for key, value in values.items()}


def _camel_case(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel_case(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    # The variables of a container have names of their own.
    return {
        re.sub("_(.)", lambda part: part[1].upper(), key): each if key == "environment" else _camel_case(each)
        for key, each in value.items()
    }
