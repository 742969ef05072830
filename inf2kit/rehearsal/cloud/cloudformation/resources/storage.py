"""Buckets, their policies, and parameters."""

from __future__ import annotations

import contextlib
import json

from inf2kit.rehearsal.cloud.cloudformation.resources.base import Here, Made, Properties, Type, call
from inf2kit.rehearsal.cloud.errors import AwsError


class Bucket(Type):
    name_property = "BucketName"

    def name(self, stack: str, logical_id: str, properties: Properties) -> str:
        return super().name(stack, logical_id, properties).lower()

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        where = {} if here.region == "us-east-1" else {"LocationConstraint": here.region}
        extra = {"CreateBucketConfiguration": where} if where else {}
        with contextlib.suppress(here.client("s3").exceptions.ClientError):
            here.client("s3").head_bucket(Bucket=name)
            raise AwsError("AlreadyExists", f"{name} already exists")
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


class BucketPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        policy = json.dumps(properties["PolicyDocument"])
        here.client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
        return Made(properties["Bucket"])

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self.create(here, "", new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("s3").delete_bucket_policy(Bucket=made.physical_id)


class Parameter(Type):
    name_property = "Name"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        tags = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
        call(here.client("ssm"), "PutParameter", {**properties, "Name": name, "Tags": tags})
        return self._made(properties, name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        request = {key: value for key, value in new.items() if key != "Tags"}
        call(here.client("ssm"), "PutParameter", {**request, "Name": made.physical_id, "Overwrite": True})
        return self._made(new, made.physical_id)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("ssm").delete_parameter(Name=made.physical_id)

    @staticmethod
    def _made(properties: Properties, name: str) -> Made:
        return Made(name, {"Type": properties["Type"], "Value": properties["Value"]})
