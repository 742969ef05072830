"""Roles and their inline policies."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
    call,
)
from inf2kit.rehearsal.cloud.errors import AwsError


class Role(ResourceHandler):
    name_property = "RoleName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        iam = services.client("iam")
        request = {**properties, "RoleName": name}
        request["AssumeRolePolicyDocument"] = json.dumps(properties["AssumeRolePolicyDocument"])
        role = call(iam, "CreateRole", request)["Role"]
        self._update_policies(iam, name, {}, properties)
        return PhysicalResource(name, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        iam, name = services.client("iam"), resource.id
        iam.update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(new["AssumeRolePolicyDocument"])
        )
        call(iam, "UpdateRole", {"Description": "", **new, "RoleName": name})
        boundary = new.get("PermissionsBoundary")
        if boundary:
            iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=boundary)
        elif "PermissionsBoundary" in old:
            iam.delete_role_permissions_boundary(RoleName=name)
        self._update_tags(iam, name, old, new)
        self._update_policies(iam, name, old, new)
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        iam, name = services.client("iam"), resource.id
        self._update_policies(iam, name, properties, {})
        iam.delete_role(RoleName=name)

    @staticmethod
    def _update_tags(iam: Any, name: str, old: Properties, new: Properties) -> None:
        before, after = ({tag["Key"] for tag in each.get("Tags", [])} for each in (old, new))
        if before - after:
            iam.untag_role(RoleName=name, TagKeys=sorted(before - after))
        if after:
            iam.tag_role(RoleName=name, Tags=new["Tags"])

    @staticmethod
    def _update_policies(iam: Any, name: str, old: Properties, new: Properties) -> None:
        names = {policy["PolicyName"] for policy in new.get("Policies", [])}
        for policy in old.get("Policies", []):
            if policy["PolicyName"] not in names:
                iam.delete_role_policy(RoleName=name, PolicyName=policy["PolicyName"])
        for policy in new.get("Policies", []):
            document = json.dumps(policy["PolicyDocument"])
            iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
        before, after = set(old.get("ManagedPolicyArns", [])), set(new.get("ManagedPolicyArns", []))
        for arn in before - after:
            iam.detach_role_policy(RoleName=name, PolicyArn=arn)
        for arn in after - before:
            iam.attach_role_policy(RoleName=name, PolicyArn=arn)


class Policy(ResourceHandler):
    """An inline policy of roles; policies of users and groups are not simulated."""

    name_property = "PolicyName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        return self.update(services, PhysicalResource(name), {}, properties)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        if new.get("Users") or new.get("Groups"):
            raise AwsError("ValidationError", "this rehearsal has inline policies of roles only")
        removed = set(old.get("Roles", []))
        if new["PolicyName"] == resource.id:
            removed -= set(new.get("Roles", []))
        iam, document = services.client("iam"), json.dumps(new["PolicyDocument"])
        for role in new.get("Roles", []):
            iam.put_role_policy(RoleName=role, PolicyName=new["PolicyName"], PolicyDocument=document)
        self._remove(iam, resource.id, removed)
        return PhysicalResource(new["PolicyName"], {"Id": new["PolicyName"]})

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        self._remove(services.client("iam"), resource.id, set(properties.get("Roles", [])))

    @staticmethod
    def _remove(iam: Any, name: str, roles: set[str]) -> None:
        for role in roles:
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                iam.delete_role_policy(RoleName=role, PolicyName=name)
