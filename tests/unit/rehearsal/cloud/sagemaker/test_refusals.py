"""Roll-outs that SageMaker would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.sagemaker.refusals import check_rollout


def routing(kind: str, **more: Any) -> dict[str, Any]:
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": kind, **more}}}


def size(kind: str, value: int) -> dict[str, Any]:
    return {"Type": kind, "Value": value}


@pytest.mark.parametrize(
    ("deployment", "count", "said"),
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
def test_a_part_of_the_fleet_must_be_one(deployment: dict[str, Any], count: int, said: str) -> None:
    with pytest.raises(AwsError, match=said):
        check_rollout(deployment, count)


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
def test_what_this_kit_deploys_is_allowed(deployment: dict[str, Any], count: int) -> None:
    check_rollout(deployment, count)
