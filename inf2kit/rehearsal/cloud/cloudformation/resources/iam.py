"""Roles and their inline policies."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from inf2kit.rehearsal.cloud.cloudformation.resources.base import Here, Made, Properties, Type, call
from inf2kit.rehearsal.cloud.errors import AwsError


class Role(Type):
    name_property = "RoleName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        iam = here.client("iam")
        request = {**properties, "RoleName": name}
        request["AssumeRolePolicyDocument"] = json.dumps(properties["AssumeRolePolicyDocument"])
        role = call(iam, "CreateRole", request)["Role"]
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


class Policy(Type):
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
