"""What a clean-up may delete."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from inf2kit.inventory import Inventory, Resource, plan_cleanup
from inf2kit.inventory.packages import split_unused
from inf2kit.inventory.stacks import Ownership
from inf2kit.package import ListedPackage
from inf2kit.package.stores.base import StoredPackage

ENDPOINT = Resource(
    "endpoint", "e", "arn:e", "InService", "1 x ml.inf2.xlarge", bills=True, usd_per_hour=0.91
)
CONFIG = Resource("endpoint configuration", "c", "arn:c", used_by=("e",))
MODEL = Resource("model", "m", "arn:m", used_by=("e",))
LOG = Resource("log group", "/aws/sagemaker/Endpoints/e", "arn:l")


def inventory(*resources: Resource, unlisted: frozenset[str] = frozenset()) -> Inventory:
    return Inventory("eu-west-1", resources, unlisted=unlisted)


def test_the_endpoint_goes_first_and_its_log_last() -> None:
    plan = plan_cleanup(inventory(LOG, MODEL, CONFIG, ENDPOINT))
    assert plan.deletions == (ENDPOINT, CONFIG, MODEL, LOG)
    assert plan.retained == ()


def test_what_a_stack_has_created_is_the_stacks() -> None:
    owned = replace(ENDPOINT, stack="inf2-e")
    plan = plan_cleanup(inventory(owned, MODEL))
    assert plan.deletions == ()
    assert [(retained.reason, retained.command) for retained in plan.retained] == [
        ("belongs to the stack inf2-e", "cdk destroy inf2-e"),
        ("is used by the endpoint e", ""),
    ]


def test_a_log_group_that_sagemaker_made_stays() -> None:
    (retained,) = plan_cleanup(inventory(replace(LOG, tagged=False))).retained
    assert retained.command.endswith(f"--region eu-west-1 --log-group-name {LOG.name}")


def test_what_a_deleted_stack_has_retained_belongs_to_nobody() -> None:
    tagged = replace(LOG, stack="inf2-e")
    assert Ownership((), {}, frozenset(["inf2-e"])).stack_of(tagged) == "inf2-e"
    assert Ownership((), {}, frozenset(["other"])).stack_of(tagged) == ""
    assert Ownership((), {LOG.name: "own"}, frozenset(["own"])).stack_of(LOG) == "own"


@pytest.mark.parametrize(("unlisted", "count"), [("stacks", 0), ("endpoints", 1)])
def test_what_is_not_known_is_not_deleted(unlisted: str, count: int) -> None:
    plan = plan_cleanup(inventory(MODEL, CONFIG, LOG, unlisted=frozenset([unlisted])))
    assert len(plan.deletions) == count


def test_a_later_resource_of_the_same_name_is_not_deleted() -> None:
    first, second = (
        replace(ENDPOINT, created=dt.datetime(2026, 11, day, tzinfo=dt.timezone.utc)) for day in (1, 2)
    )
    listed = plan_cleanup(inventory(first, LOG))
    now = plan_cleanup(inventory(second, LOG)).restricted_to(listed)
    assert now.deletions == (LOG,)


def test_costs() -> None:
    unknown = replace(ENDPOINT, name="x", arn="arn:x", usd_per_hour=None)
    both = inventory(ENDPOINT, unknown, LOG)
    assert [resource.cost for resource in both.resources] == ["$0.91/h", "not known", "-"]
    assert both.usd_per_hour == 0.91


def test_packages_in_use_and_new_ones_stay() -> None:
    now = dt.datetime(2026, 11, 26, 12, tzinfo=dt.timezone.utc)

    def package(digest: str, minutes: int, *used_by: str) -> ListedPackage:
        stored = StoredPackage(digest, True, now - dt.timedelta(minutes=minutes), 1)
        return ListedPackage(stored, "p", "m", "host", used_by)

    packages = [package("a", 90), package("b", 5), package("c", 90, "m"), package("d", 90, "m", "other")]
    unused, new = split_unused(packages, {"m"}, now)
    assert [listed.stored.digest for listed in unused] == ["a", "c"]
    assert [listed.stored.digest for listed in new] == ["b"]
