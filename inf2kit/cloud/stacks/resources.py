"""The resource types that stacks may have: how each is made, changed and deleted by its service's API.

A type is a class here where moto has none or an unfaithful one; every other type that moto knows is made as
moto makes it. A type that neither knows is refused by name.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from moto.cloudformation import parsing

from inf2kit.cloud.errors import AwsError

Properties = Mapping[str, Any]
_LETTERS = string.ascii_letters + string.digits
_POLL_S = 0.2


@dataclass(frozen=True)
class Made:
    """A resource that exists.

    Attributes:
        physical_id: What Ref gives.
        attributes: What Fn::GetAtt gives.
    """

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Here:
    """Where resources are made.

    Attributes:
        account: The account's number.
        region: The region's name.
        client: A boto3 client of a service, which talks to this cloud.
    """

    account: str
    region: str
    client: Callable[[str], Any]


class Type:
    """How resources of one type are made. Subclasses override what their service needs."""

    #: The property that names it; without one CloudFormation makes a name.
    name_property = ""

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        """The resource's name: the template's, or one of CloudFormation's own making."""
        given = properties.get(self.name_property) if self.name_property else None
        return str(given or generated(stack, logical_id))

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        """Make it."""
        raise NotImplementedError

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        """Change it where it is; most services take the whole of it again."""
        raise NotImplementedError

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """Delete it."""
        raise NotImplementedError


def generated(stack: str, logical_id: str) -> str:
    """A name that nothing else has."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(12))
    return f"{stack}-{logical_id}"[:50].rstrip("-") + f"-{suffix}"


class _SageMakerRecord(Type):
    """A Model or an EndpointConfig: a record, which is never changed, only replaced."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self.name_property = f"{noun}Name"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sagemaker = here.client("sagemaker")
        request = {**properties, self.name_property: name}
        answer = _call(sagemaker, f"Create{self._noun}", request)
        arn = answer[f"{self._noun}Arn"]
        return Made(arn, {self.name_property: name, f"{self._noun}Arn": arn})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        _tag(here, made.physical_id, old, new)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        name = made.attributes[self.name_property]
        _call(here.client("sagemaker"), f"Delete{self._noun}", {self.name_property: name})


class _Endpoint(Type):
    name_property = "EndpointName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sagemaker = here.client("sagemaker")
        answer = _call(sagemaker, "CreateEndpoint", {**properties, "EndpointName": name})
        made = Made(answer["EndpointArn"], {"EndpointName": name, "EndpointArn": answer["EndpointArn"]})
        status = _settled(sagemaker, name)
        if status["EndpointStatus"] != "InService":
            raise CreatedButFailedError(made, str(status.get("FailureReason", "")))
        return made

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        sagemaker, name = here.client("sagemaker"), made.attributes["EndpointName"]
        _tag(here, made.physical_id, old, new)
        now = _settled(sagemaker, name)
        if now["EndpointConfigName"] == new["EndpointConfigName"]:
            return made
        _call(sagemaker, "UpdateEndpoint", {**new, "EndpointName": name})
        now = _settled(sagemaker, name)
        if now["EndpointConfigName"] != new["EndpointConfigName"]:
            raise AwsError("NotStabilized", str(now.get("FailureReason", "the update was rolled back")))
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        sagemaker, name = here.client("sagemaker"), made.attributes["EndpointName"]
        with contextlib.suppress(ClientError):  # somebody else has deleted it
            sagemaker.delete_endpoint(EndpointName=name)
            while True:
                sagemaker.describe_endpoint(EndpointName=name)
                time.sleep(_POLL_S)


class CreatedButFailedError(Exception):
    """A resource that exists and does not work: it must be deleted, and the stack told why."""

    def __init__(self, made: Made, reason: str) -> None:
        super().__init__(reason)
        self.made = made


class _Role(Type):
    name_property = "RoleName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        iam = here.client("iam")
        request = {**properties, "RoleName": name}
        request["AssumeRolePolicyDocument"] = json.dumps(properties["AssumeRolePolicyDocument"])
        role = _call(iam, "CreateRole", request)["Role"]
        self._grant(iam, name, {}, properties)
        return Made(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        iam, name = here.client("iam"), made.physical_id
        iam.update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(new["AssumeRolePolicyDocument"])
        )
        self._grant(iam, name, old, new)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        iam, name = here.client("iam"), made.physical_id
        self._grant(iam, name, properties, {})
        iam.delete_role(RoleName=name)

    @staticmethod
    def _grant(iam: Any, name: str, old: Properties, new: Properties) -> None:
        kept = {policy["PolicyName"] for policy in new.get("Policies", [])}
        for policy in old.get("Policies", []):
            if policy["PolicyName"] not in kept:
                iam.delete_role_policy(RoleName=name, PolicyName=policy["PolicyName"])
        for policy in new.get("Policies", []):
            document = json.dumps(policy["PolicyDocument"])
            iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
        before, after = set(old.get("ManagedPolicyArns", [])), set(new.get("ManagedPolicyArns", []))
        for arn in before - after:
            iam.detach_role_policy(RoleName=name, PolicyArn=arn)
        for arn in after - before:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)


class _Policy(Type):
    """An inline policy of roles; users and groups have theirs too, which no stack here needs."""

    name_property = "PolicyName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        return self.update(here, Made(name), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        if new.get("Users") or new.get("Groups"):
            raise AwsError("ValidationError", "this rehearsal has inline policies of roles only")
        gone = set(old.get("Roles", [])) - set(new.get("Roles", []))
        if new["PolicyName"] != made.physical_id:
            gone = set(old.get("Roles", []))
        iam = here.client("iam")
        for role in new.get("Roles", []):
            document = json.dumps(new["PolicyDocument"])
            iam.put_role_policy(RoleName=role, PolicyName=new["PolicyName"], PolicyDocument=document)
        self._drop(iam, made.physical_id, gone)
        return Made(new["PolicyName"], {"Id": new["PolicyName"]})

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        self._drop(here.client("iam"), made.physical_id, set(properties.get("Roles", [])))

    @staticmethod
    def _drop(iam: Any, name: str, roles: set[str]) -> None:
        for role in roles:
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                iam.delete_role_policy(RoleName=role, PolicyName=name)


class _LogGroup(Type):
    name_property = "LogGroupName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        here.client("logs").create_log_group(logGroupName=name, tags=tags)
        arn = f"arn:aws:logs:{here.region}:{here.account}:log-group:{name}:*"
        return self.update(here, Made(name, {"Arn": arn}), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        logs, name = here.client("logs"), made.physical_id
        if "RetentionInDays" in new:
            logs.put_retention_policy(logGroupName=name, retentionInDays=int(new["RetentionInDays"]))
        elif "RetentionInDays" in old:
            logs.delete_retention_policy(logGroupName=name)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("logs").delete_log_group(logGroupName=made.physical_id)


class _Topic(Type):
    name_property = "TopicName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sns = here.client("sns")
        attributes = self._attributes(properties)
        tags = list(properties.get("Tags", []))
        arn = sns.create_topic(Name=name, Attributes=attributes, Tags=tags)["TopicArn"]
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        for name, value in self._attributes(new).items():
            here.client("sns").set_topic_attributes(
                TopicArn=made.physical_id, AttributeName=name, AttributeValue=value
            )
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("sns").delete_topic(TopicArn=made.physical_id)

    @staticmethod
    def _attributes(properties: Properties) -> dict[str, str]:
        return {
            name: str(properties[name]) for name in ("DisplayName", "KmsMasterKeyId") if name in properties
        }


class _TopicPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        return self.update(here, Made(name, {"Id": name}), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        for topic in new["Topics"]:
            here.client("sns").set_topic_attributes(
                TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(new["PolicyDocument"])
            )
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """The topic goes with it."""


class _Subscription(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        request = {key: properties[key] for key in ("TopicArn", "Protocol", "Endpoint") if key in properties}
        arn = here.client("sns").subscribe(**request, ReturnSubscriptionArn=True)["SubscriptionArn"]
        return Made(arn, {"Arn": arn})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("sns").unsubscribe(SubscriptionArn=made.physical_id)


class _Alarm(Type):
    name_property = "AlarmName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        _call(here.client("cloudwatch"), "PutMetricAlarm", {**properties, "AlarmName": name})
        return Made(name, {"Arn": f"arn:aws:cloudwatch:{here.region}:{here.account}:alarm:{name}"})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, made.physical_id, new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("cloudwatch").delete_alarms(AlarmNames=[made.physical_id])


class _Parameter(Type):
    name_property = "Name"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        tags = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
        _call(here.client("ssm"), "PutParameter", {**properties, "Name": name, "Tags": tags})
        return self._made(properties, name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        request = {key: value for key, value in new.items() if key != "Tags"}
        _call(here.client("ssm"), "PutParameter", {**request, "Name": made.physical_id, "Overwrite": True})
        return self._made(new, made.physical_id)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("ssm").delete_parameter(Name=made.physical_id)

    @staticmethod
    def _made(properties: Properties, name: str) -> Made:
        return Made(name, {"Type": properties["Type"], "Value": properties["Value"]})


class _ScalableTarget(Type):
    _IDS = ("ServiceNamespace", "ResourceId", "ScalableDimension")

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        _call(here.client("application-autoscaling"), "RegisterScalableTarget", properties)
        made = "|".join(
            str(properties[key]) for key in ("ResourceId", "ScalableDimension", "ServiceNamespace")
        )
        return Made(made, {"Id": made})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, "", new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        request = {key: properties[key] for key in self._IDS}
        here.client("application-autoscaling").deregister_scalable_target(**request)


class _ScalingPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        request = {**self._target(properties), **properties}
        answer = _call(here.client("application-autoscaling"), "PutScalingPolicy", request)
        return Made(answer["PolicyARN"], {"Arn": answer["PolicyARN"]})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, "", new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        request = {"PolicyName": properties["PolicyName"], **self._target(properties)}
        here.client("application-autoscaling").delete_scaling_policy(**request)

    @staticmethod
    def _target(properties: Properties) -> dict[str, str]:
        names = ("ResourceId", "ScalableDimension", "ServiceNamespace")
        if "ScalingTargetId" in properties:
            return dict(zip(names, properties["ScalingTargetId"].split("|"), strict=True))
        return {name: properties[name] for name in names}


class _Bucket(Type):
    name_property = "BucketName"

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        return super().name(stack, logical_id, properties).lower()

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        where = {} if here.region == "us-east-1" else {"LocationConstraint": here.region}
        extra = {"CreateBucketConfiguration": where} if where else {}
        here.client("s3").create_bucket(Bucket=name, **extra)
        host = f"{name}.s3.{here.region}.amazonaws.com"
        attributes = {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": host,
        }
        return self.update(here, Made(name, attributes), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        s3, name = here.client("s3"), made.physical_id
        if "VersioningConfiguration" in new:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=new["VersioningConfiguration"])
        if "PublicAccessBlockConfiguration" in new:
            block = new["PublicAccessBlockConfiguration"]
            s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("s3").delete_bucket(Bucket=made.physical_id)


class _BucketPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        policy = json.dumps(properties["PolicyDocument"])
        here.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
        return Made(properties["Bucket"])

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, "", new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("s3").delete_bucket_policy(Bucket=made.physical_id)


class _Metadata(Type):
    """The CDK's own mark, which is nothing."""

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        return Made(name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """There is nothing to delete."""


class _Motos(Type):
    """A type that is made as moto makes it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._model: Any = parsing.get_model_map()[kind]
        self.name_property = parsing.resource_name_property_from_type(kind) or ""

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        given = {"LogicalId": name, "StackId": "", "ResourceType": self._kind}
        resource = self._model.create_from_cloudformation_json(
            name, self._json(properties), here.account, here.region, **given
        )
        return self._made(resource, name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        resource = self._model.update_from_cloudformation_json(
            made.attributes["moto"], made.physical_id, self._json(new), here.account, here.region
        )
        return self._made(resource, made.physical_id)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        resource = made.attributes["moto"]
        try:
            resource.delete(here.account, here.region)
        except (TypeError, AttributeError):
            self._model.delete_from_cloudformation_json(
                made.physical_id, self._json(properties), here.account, here.region
            )

    def _json(self, properties: Properties) -> dict[str, Any]:
        return {"Type": self._kind, "Properties": dict(properties)}

    def _made(self, resource: Any, name: str) -> Made:
        return Made(str(getattr(resource, "physical_resource_id", name)), _MotosAttributes(resource))


class _MotosAttributes(dict[str, Any]):
    """Asks moto's resource for what is not known beforehand."""

    def __init__(self, resource: Any) -> None:
        super().__init__(moto=resource)
        self._resource = resource

    def __missing__(self, name: str) -> Any:
        try:
            return self._resource.get_cfn_attribute(name)
        except Exception:
            raise KeyError(name) from None


_TYPES: dict[str, Type] = {
    "AWS::SageMaker::Model": _SageMakerRecord("Model"),
    "AWS::SageMaker::EndpointConfig": _SageMakerRecord("EndpointConfig"),
    "AWS::SageMaker::Endpoint": _Endpoint(),
    "AWS::IAM::Role": _Role(),
    "AWS::IAM::Policy": _Policy(),
    "AWS::Logs::LogGroup": _LogGroup(),
    "AWS::SNS::Topic": _Topic(),
    "AWS::SNS::TopicPolicy": _TopicPolicy(),
    "AWS::SNS::Subscription": _Subscription(),
    "AWS::CloudWatch::Alarm": _Alarm(),
    "AWS::SSM::Parameter": _Parameter(),
    "AWS::ApplicationAutoScaling::ScalableTarget": _ScalableTarget(),
    "AWS::ApplicationAutoScaling::ScalingPolicy": _ScalingPolicy(),
    "AWS::S3::Bucket": _Bucket(),
    "AWS::S3::BucketPolicy": _BucketPolicy(),
    "AWS::CDK::Metadata": _Metadata(),
}


@functools.cache
def of(kind: str) -> Type | None:
    """How a type is made; None where nobody knows it."""
    if kind in _TYPES:
        return _TYPES[kind]
    return _Motos(kind) if kind in parsing.get_model_map() else None


@functools.cache
def replaced_by(kind: str) -> frozenset[str]:
    """The properties whose change needs another resource, from CloudFormation's own schema of the type."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    try:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    except Exception:
        return frozenset()
    return frozenset(path.split("/")[2] for path in schema.get("createOnlyProperties", []))


def replaces(kind: str, old: Properties, new: Properties) -> bool:
    """Whether a change of properties needs another resource."""
    return any(old.get(key) != new.get(key) for key in replaced_by(kind))


def _call(client: Any, operation: str, properties: Properties) -> Any:
    """An operation with those properties that it has, of the types that it takes."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    request = {
        name: _typed(shape.members[name], value)
        for name, value in properties.items()
        if name in shape.members
    }
    method = next(name for name, each in client.meta.method_to_api_mapping.items() if each == operation)
    return getattr(client, method)(**request)


def _typed(shape: Any, value: Any) -> Any:
    """Templates may have numbers and truth values as text."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            name: _typed(shape.members[name], each) for name, each in value.items() if name in shape.members
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_typed(shape.member, each) for each in value]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {name: _typed(shape.value, each) for name, each in value.items()}
    if isinstance(value, str) and shape.type_name in ("integer", "long"):
        return int(value)
    if isinstance(value, str) and shape.type_name in ("float", "double"):
        return float(value)
    if isinstance(value, str) and shape.type_name == "boolean":
        return value.lower() == "true"
    return str(value) if shape.type_name == "string" and not isinstance(value, str) else value


def _settled(sagemaker: Any, name: str) -> Any:
    """An endpoint's description, when it has stopped changing."""
    while True:
        found = sagemaker.describe_endpoint(EndpointName=name)
        if found["EndpointStatus"] not in ("Creating", "Updating", "RollingBack", "SystemUpdating"):
            return found
        time.sleep(_POLL_S)


def _tag(here: Here, arn: str, old: Properties, new: Properties) -> None:
    before = {tag["Key"] for tag in old.get("Tags", [])}
    after = {tag["Key"] for tag in new.get("Tags", [])}
    sagemaker = here.client("sagemaker")
    if before - after:
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=sorted(before - after))
    if new.get("Tags"):
        sagemaker.add_tags(ResourceArn=arn, Tags=new["Tags"])
