"""Buckets, bucket policies and SSM parameters."""

from __future__ import annotations

import contextlib
import json

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
    call,
    check_found,
)
from inf2kit.rehearsal.cloud.errors import AwsError


class Bucket(ResourceHandler):
    name_property = "BucketName"

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        return super().name(stack, logical_id, properties).lower()

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        s3 = services.client("s3")
        with contextlib.suppress(s3.exceptions.ClientError):
            s3.head_bucket(Bucket=name)
            raise AwsError("AlreadyExists", f"{name} already exists")
        location = {"LocationConstraint": services.region}
        s3.create_bucket(
            Bucket=name,
            **({} if services.region == "us-east-1" else {"CreateBucketConfiguration": location}),
        )
        attributes = {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{services.region}.amazonaws.com",
        }
        return self.update(services, PhysicalResource(name, attributes), {}, properties)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        s3, name = services.client("s3"), resource.id
        if "VersioningConfiguration" in new:
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=new["VersioningConfiguration"])
        if "PublicAccessBlockConfiguration" in new:
            block = new["PublicAccessBlockConfiguration"]
            s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("s3").delete_bucket(Bucket=resource.id)


class BucketPolicy(ResourceHandler):
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        policy = json.dumps(properties["PolicyDocument"])
        services.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
        return PhysicalResource(properties["Bucket"])

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        return self.create(services, "", new)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("s3").delete_bucket_policy(Bucket=resource.id)


class Parameter(ResourceHandler):
    name_property = "Name"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        tags = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
        call(services.client("ssm"), "PutParameter", {**properties, "Name": name, "Tags": tags})
        return self._physical(properties, name)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        parameters = services.client("ssm").get_parameters(Names=[resource.id])["Parameters"]
        check_found("parameter", resource.id, [parameter["Name"] for parameter in parameters])
        request = {key: value for key, value in new.items() if key != "Tags"}
        call(services.client("ssm"), "PutParameter", {**request, "Name": resource.id, "Overwrite": True})
        return self._physical(new, resource.id)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("ssm").delete_parameter(Name=resource.id)

    @staticmethod
    def _physical(properties: Properties, name: str) -> PhysicalResource:
        return PhysicalResource(name, {"Type": properties["Type"], "Value": properties["Value"]})
