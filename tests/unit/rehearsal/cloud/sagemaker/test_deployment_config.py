"""Sizes of canaries, steps and batches that SageMaker refuses or accepts."""

from __future__ import annotations

from typing import Any

import pytest

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.sagemaker.deployment_config import check_sizes


def routing(kind: str, **more: Any) -> dict[str, Any]:
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": kind, **more}}}


def size(kind: str, value: int) -> dict[str, Any]:
    return {"Type": kind, "Value": value}


@pytest.mark.parametrize(
    ("deployment", "count", "message"),
    [
        (routing("CANARY", CanarySize=size("INSTANCE_COUNT", 1)), 1, "cannot be updated with CANARY"),
        (routing("CANARY", CanarySize=size("CAPACITY_PERCENT", 60)), 4, "CanarySize must be 0 to 50"),
        (routing("LINEAR", LinearStepSize=size("CAPACITY_PERCENT", 5)), 4, "LinearStepSize must be 10 to 50"),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": size("INSTANCE_COUNT", 3)}}, 4, "5 to 50 percent"),
        (
            {"RollingUpdatePolicy": {"MaximumBatchSize": size("CAPACITY_PERCENT", 25)}},
            1,
            "cannot be updated with batches",
        ),
        (routing("CANARY", CanarySize=size("INSTANCE_COUNT", 1)), 0, "cannot be updated with CANARY"),
    ],
)
def test_a_size_that_is_no_allowed_part_of_the_fleet_is_refused(
    deployment: dict[str, Any], count: int, message: str
) -> None:
    with pytest.raises(AwsError, match=message):
        check_sizes(deployment, count)


@pytest.mark.parametrize(
    ("deployment", "count"),
    [
        ({}, 1),
        (routing("ALL_AT_ONCE"), 1),
        (routing("CANARY", CanarySize=size("INSTANCE_COUNT", 1)), 2),
        (routing("LINEAR", LinearStepSize=size("INSTANCE_COUNT", 2)), 4),
        ({"RollingUpdatePolicy": {"MaximumBatchSize": size("CAPACITY_PERCENT", 25)}}, 4),
    ],
)
def test_the_sizes_of_this_kits_stacks_are_accepted(deployment: dict[str, Any], count: int) -> None:
    check_sizes(deployment, count)
