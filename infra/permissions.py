"""Who may do what: the container's execution role, and whoever calls the endpoint."""

from __future__ import annotations

from aws_cdk import Stack, region_info
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from inf2kit import facts
from infra.props import EndpointProps

_INVOKE = ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")


class ExecutionRole(Construct):
    """What SageMaker and the container may do on the endpoint's behalf, and nothing else.

    Attributes:
        role: For the Model.
        policies: Must be there before the Model is made, which is checked against them.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        props: EndpointProps,
        log_group: logs.CfnLogGroup,
        rollback_alarm_names: list[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack = Stack.of(self)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=f"Execution role of the endpoint {props.endpoint_name}",
        )
        general = iam.Policy(
            self,
            "Policy",
            roles=[self.role],
            statements=[
                *self._image(),
                *self._logs(log_group),
                *self._rollback(rollback_alarm_names),
                *self._outputs(props),
                *self._key(props),
                *self._network(props),
            ],
        )
        # A policy for each package: an update adds the new one first, and CloudFormation takes the old one
        # away when nothing runs it any more. In one policy the running fleet could not load it again.
        digest = props.package.manifest.digest
        package = iam.Policy(self, f"Package{digest}", roles=[self.role], statements=self._package(props))
        cfn_policy = package.node.default_child
        assert isinstance(cfn_policy, iam.CfnPolicy)  # noqa: S101
        cfn_policy.override_logical_id(f"Package{digest}")
        self.policies = [general, package]

    def _image(self) -> list[iam.PolicyStatement]:
        account = self._stack.regional_fact(region_info.FactName.DLC_REPOSITORY_ACCOUNT)
        return [
            _allow("Login", ["ecr:GetAuthorizationToken"], ["*"]),
            _allow(
                "Image",
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [self._arn("ecr", f"repository/{facts.image().repository}", account=account)],
            ),
        ]

    def _package(self, props: EndpointProps) -> list[iam.PolicyStatement]:
        bucket = f"arn:{self._stack.partition}:s3:::{props.package.bucket}"
        listing = _allow("PackageNames", ["s3:ListBucket"], [bucket])
        listing.add_condition("StringLike", {"s3:prefix": [f"{props.package.prefix}*"]})
        statements = [_allow("Package", ["s3:GetObject"], [self._below(props.package.uri)]), listing]
        if props.package_kms_key_arn:
            statements.append(_allow("PackageKey", ["kms:Decrypt"], [props.package_kms_key_arn]))
        return statements

    def _logs(self, group: logs.CfnLogGroup) -> list[iam.PolicyStatement]:
        name = str(group.log_group_name)
        return [
            _allow(
                "Logs",
                ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                [
                    self._arn("logs", f"log-group:{name}", ":log-stream:*"),
                    self._arn("logs", f"log-group:{name}"),
                ],
            ),
            # Has no resources to name; the instances' own metrics go through this role.
            _allow("Metrics", ["cloudwatch:PutMetricData"], ["*"]),
        ]

    def _rollback(self, names: list[str]) -> list[iam.PolicyStatement]:
        alarms = [self._arn("cloudwatch", f"alarm:{name}") for name in names]
        return [_allow("RollbackAlarms", ["cloudwatch:DescribeAlarms"], alarms)]

    def _outputs(self, props: EndpointProps) -> list[iam.PolicyStatement]:
        written = [props.async_output] if props.asynchronous else []
        written += [props.data_capture_output] if props.data_capture_percent else []
        statements = []
        if written:
            places = [self._below(uri) for uri in written]
            statements.append(_allow("Outputs", ["s3:AbortMultipartUpload", "s3:PutObject"], places))
        if props.asynchronous:
            # Callers put their requests beside the answers.
            statements.append(_allow("Requests", ["s3:GetObject"], [self._below(props.async_output)]))
        return statements

    def _key(self, props: EndpointProps) -> list[iam.PolicyStatement]:
        if not props.kms_key_arn:
            return []
        use = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
        grant = _allow("VolumeKey", ["kms:CreateGrant"], [props.kms_key_arn])
        grant.add_condition("Bool", {"kms:GrantIsForAWSResource": "true"})
        return [_allow("Key", use, [props.kms_key_arn]), grant]

    def _network(self, props: EndpointProps) -> list[iam.PolicyStatement]:
        if not props.subnet_ids:
            return []
        describe = ["DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs"]
        change = [
            f"{verb}NetworkInterface{what}" for verb in ("Create", "Delete") for what in ("", "Permission")
        ]
        places = [
            self._arn("ec2", "network-interface/*"),
            *(self._arn("ec2", f"subnet/{subnet}") for subnet in props.subnet_ids),
            *(self._arn("ec2", f"security-group/{group}") for group in props.security_group_ids),
        ]
        return [
            _allow("Networks", [f"ec2:Describe{what}" for what in describe], ["*"]),
            _allow("Interfaces", [f"ec2:{what}" for what in change], places),
        ]

    def _below(self, uri: str) -> str:
        """The objects under an ``s3://`` prefix."""
        return f"arn:{self._stack.partition}:s3:::{uri.removeprefix('s3://')}*"

    def _arn(self, service: str, resource: str, tail: str = "", *, account: str = "") -> str:
        where = f"{self._stack.region}:{account or self._stack.account}"
        return f"arn:{self._stack.partition}:{service}:{where}:{resource}{tail}"


def grant_invoke(grantee: iam.IGrantable, endpoint_arn: str, *, asynchronous: bool) -> iam.Grant:
    """Let somebody call an endpoint, in the ways that it answers.

    Args:
        grantee: A role, a user, a function.
        endpoint_arn: Of the endpoint.
        asynchronous: Whether it is called through S3.
    """
    actions = ["sagemaker:InvokeEndpointAsync"] if asynchronous else list(_INVOKE)
    return iam.Grant.add_to_principal(grantee=grantee, actions=actions, resource_arns=[endpoint_arn])


def _allow(sid: str, actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, actions=actions, resources=resources)
