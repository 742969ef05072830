"""The bucket of packages: region, owner, policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok, problem
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.errors import PackageError
from inf2kit.package.stores.bucket import find_foreign_grants
from inf2kit.package.stores.encryption import find_required
from inf2kit.package.stores.places import parse_bucket_place


def of_packages(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at the bucket of --packages, or at those that models and parameters of inf2kit name."""
    _ = surroundings.account
    places = [surroundings.packages] if surroundings.packages else list(surroundings.inventory.package_places)
    if not places:
        raise NotCheckedError(
            "no model or parameter of inf2kit names one yet; give yours with --packages s3://BUCKET/PREFIX"
        )
    names = []
    for place in places:
        try:
            names.append(parse_bucket_place(place).bucket)
        except PackageError as error:
            yield problem(*str(error).split("; ", 1))
    for name in dict.fromkeys(names):
        yield from _look(surroundings, name)


def _look(surroundings: Surroundings, name: str) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    s3, account = surroundings.client("s3"), surroundings.account.id
    owner = {"Bucket": name, "ExpectedBucketOwner": account}
    try:
        head = s3.head_bucket(**owner)
    except ClientError as error:
        yield _explain(error, surroundings, name)
        return
    headers = head["ResponseMetadata"]["HTTPHeaders"]
    region = head.get("BucketRegion") or headers.get("x-amz-bucket-region") or surroundings.region
    if region != surroundings.region:
        yield problem(
            f"{name} is in {region}, and endpoints in {surroundings.region} read models only from there",
            f"take a bucket in {surroundings.region}, or --region {region}",
        )
        return
    policy = _read_policy(s3, owner)
    if required := find_required(policy):
        yield ok(f"{name} takes only what is encrypted", f"add {required.options()} when you package")
    if grants := find_foreign_grants(policy, account):
        yield advice(
            f"the policy of {name} lets in {', '.join(grants)}",
            "other accounts may read your weights, or write code that your endpoints run",
            f"aws s3api get-bucket-policy --bucket {name}",
        )
    else:
        yield ok(f"{name} is in {region}, and its policy lets in no other account")


def _explain(error: Any, surroundings: Surroundings, name: str) -> Finding:
    """Explain S3's refusal of HeadBucket, which has a status and no message."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status == 404:
        make = f"aws s3 mb s3://{name} --region {surroundings.region}"
        return problem(f"there is no bucket {name}", "create it, or correct its name", make)
    if status == 403:
        owner = f"it belongs to another account than {surroundings.account.id}, or you may not list it"
        return problem(f"S3 forbids access to {name}", owner)
    if status in (301, 400):
        region = error.response["ResponseMetadata"]["HTTPHeaders"].get(
            "x-amz-bucket-region", "another region"
        )
        text = f"{name} is in {region}, and endpoints in {surroundings.region} read models only from there"
        return problem(text, f"take a bucket in {surroundings.region}, or --region {region}")
    raise error


def _read_policy(s3: Any, owner: dict[str, str]) -> dict[str, Any]:
    """Read the bucket's policy; an empty one where it has none."""
    from botocore.exceptions import ClientError

    try:
        return dict(json.loads(s3.get_bucket_policy(**owner)["Policy"]))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
            raise
        return {}
