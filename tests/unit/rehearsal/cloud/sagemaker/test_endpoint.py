"""How an endpoint exchanges its fleets; the fleets are doubles that record their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.cloud.sagemaker.fleet import FleetError
from inf2kit.rehearsal.runtime.containers import Target
from tests.helpers.servers import wait_until


class FleetDouble:
    """Stands in for a fleet of containers."""

    def __init__(self, name: str, desired: int, events: list[str], fails_at: int | None = None) -> None:
        self.variant, self.weight, self.desired, self.size = "main", 1.0, desired, 0
        self.name, self.events, self.fails_at = name, events, fails_at
        self.target = Target(f"http://{name}", "InService")

    def resize(self, count: int) -> None:
        self.desired = count
        if self.fails_at is not None and count >= self.fails_at:
            raise FleetError("did not pass the ping health check")
        self.events.append(f"{self.name} {self.size}->{count}")
        self.size = count

    def close(self) -> None:
        self.events.append(f"{self.name} closed")
        self.size = 0

    def abort(self) -> None:
        self.events.append(f"{self.name} aborted")
        self.size = 0

    def pick(self) -> Target | None:
        return self.target if self.size else None


class Rig:
    """An endpoint with doubles for fleets; the alarms in ``alarms`` are in ALARM."""

    def __init__(self, count: int = 1, fails_at: int | None = None) -> None:
        self.events: list[str] = []
        self.lines: list[str] = []
        self.alarms: list[str] = []
        self._fails_at = fails_at
        self._builds = 0
        self.count = count
        self.endpoint = Endpoint(
            "e",
            "arn",
            "blue",
            self.config,
            build_fleets=self._build,  # type: ignore[arg-type]
            in_alarm=lambda names: [name for name in names if name in self.alarms],
            clock=Clock(0.6),
            log=self.lines.append,
        )

    @property
    def config(self) -> dict[str, Any]:
        return {"ProductionVariants": [{"VariantName": "main", "InitialInstanceCount": self.count}]}

    def _build(self, config: Mapping[str, Any], counts: Mapping[str, int]) -> list[FleetDouble]:
        self._builds += 1
        name = "blue" if self._builds == 1 else "green"
        desired = counts.get("main", config["ProductionVariants"][0]["InitialInstanceCount"])
        return [FleetDouble(name, desired, self.events, self._fails_at if name == "green" else None)]

    def settle(self) -> str:
        wait_until(lambda: self.endpoint.status in ("InService", "Failed"), "the endpoint has settled")
        return self.endpoint.status

    def create(self) -> Rig:
        self.endpoint.create()
        assert self.settle() == "InService"
        self.events.clear()
        return self

    def update(self, **policy: Any) -> str:
        self.endpoint.update("green", self.config, policy, {})
        return self.settle()

    def resize(self, count: int) -> Rig:
        self.endpoint.resize({"main": count})
        assert self.settle() == "InService"
        self.events.clear()
        return self

    def traffic(self) -> list[str]:
        return [line.split(": ")[1].split(" of")[0] for line in self.lines if "of the calls" in line]

    def serving(self) -> set[str]:
        targets = [self.endpoint.pick() for _ in range(50)]
        return {target.gateway_url for target in targets if target}


def routing(kind: str, **more: Any) -> dict[str, Any]:
    traffic = {"Type": kind, "WaitIntervalInSeconds": 10, **more}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic, "TerminationWaitInSeconds": 10}}


ONE = {"Type": "INSTANCE_COUNT", "Value": 1}
ROLLBACK = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}


def test_all_at_once() -> None:
    rig = Rig().create()
    assert rig.update(**routing("ALL_AT_ONCE")) == "InService"
    assert rig.events == ["green 0->1", "blue closed"]
    assert rig.traffic() == ["100 %"]
    assert rig.endpoint.config_name == "green"
    assert rig.serving() == {"http://green"}


def test_a_canary_first() -> None:
    rig = Rig(count=4).create()
    assert rig.update(**routing("CANARY", CanarySize=ONE)) == "InService"
    assert rig.traffic() == ["25 %", "100 %"]
    assert rig.events == ["green 0->4", "blue closed"]


def test_step_by_step() -> None:
    rig = Rig(count=4).create()
    rig.update(**routing("LINEAR", LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 50}))
    assert rig.traffic() == ["50 %", "100 %"]


def test_rolling() -> None:
    rig = Rig(count=4).create()
    policy = {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50}, "WaitIntervalInSeconds": 0}
    assert rig.update(RollingUpdatePolicy=policy) == "InService"
    assert rig.events == ["green 0->2", "blue 4->2", "green 2->4", "blue 2->0", "blue closed"]


def test_rolling_back_fills_the_old_fleet_again() -> None:
    rig = Rig(count=4, fails_at=4).create()
    policy = {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 2}, "WaitIntervalInSeconds": 0}
    assert rig.update(RollingUpdatePolicy=policy) == "InService"
    assert rig.events == ["green 0->2", "blue 4->2", "blue 2->4", "green aborted"]
    assert rig.endpoint.config_name == "blue"
    assert rig.serving() == {"http://blue"}


def test_a_rollback_gives_back_the_size_that_scaling_had_chosen() -> None:
    """And not the configuration's own."""
    smaller = Rig(count=2, fails_at=1).create().resize(1)
    assert smaller.update(**routing("ALL_AT_ONCE")) == "InService"
    assert smaller.events == ["green aborted"]
    larger = Rig(count=1, fails_at=3).create().resize(4)
    batch = {"MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 2}, "WaitIntervalInSeconds": 0}
    larger.endpoint.update("green", larger.config, {"RollingUpdatePolicy": batch}, {"main": 4})
    assert larger.settle() == "InService"
    assert larger.events == ["green 0->2", "blue 4->2", "blue 2->4", "green aborted"]


def test_a_fleet_that_never_gets_ready_changes_nothing() -> None:
    rig = Rig(fails_at=1).create()
    assert rig.update(**routing("ALL_AT_ONCE")) == "InService"
    assert rig.events == ["green aborted"]
    assert rig.traffic() == []
    assert "ping health check" in rig.endpoint.failure_reason


def test_an_alarm_during_the_baking_rolls_the_update_back() -> None:
    rig = Rig().create()
    rig.endpoint.update("green", rig.config, {**routing("ALL_AT_ONCE"), **ROLLBACK}, {})
    wait_until(rig.traffic, "the traffic has moved")
    rig.alarms.append("errors")
    assert rig.settle() == "InService"
    assert rig.events == ["green 0->1", "green aborted"]
    assert rig.serving() == {"http://blue"}
    assert "errors" in rig.endpoint.failure_reason


def test_an_earlier_alarm_stops_the_update_before_it_begins() -> None:
    rig = Rig().create()
    rig.alarms.append("errors")
    assert rig.update(**routing("ALL_AT_ONCE"), **ROLLBACK) == "InService"
    assert rig.events == ["green aborted"]


def test_a_failed_creation_says_why() -> None:
    rig = Rig()
    rig.endpoint.build_fleets = lambda _config, _counts: [FleetDouble("green", 1, rig.events, 1)]  # type: ignore
    rig.endpoint.create()
    assert rig.settle() == "Failed"
    assert "ping health check" in rig.endpoint.failure_reason
    assert not rig.endpoint.takes_calls


@pytest.mark.parametrize("count", [0, 3])
def test_scaling_changes_the_fleet(count: int) -> None:
    rig = Rig().create()
    rig.endpoint.resize({"main": count})
    assert rig.settle() == "InService"
    assert rig.events == [f"blue 1->{count}"]


def test_scaling_that_fails_gives_every_variant_its_size_back() -> None:
    rig = Rig()
    fleets = [FleetDouble("one", 1, rig.events), FleetDouble("two", 1, rig.events, fails_at=3)]
    fleets[1].variant = "other"
    rig.endpoint.build_fleets = lambda _config, _counts: fleets  # type: ignore
    rig.create()
    rig.endpoint.resize({"main": 2, "other": 3})
    assert rig.settle() == "InService"
    assert [(fleet.size, fleet.desired) for fleet in fleets] == [(1, 1), (1, 1)]
    assert "ping health check" in rig.endpoint.failure_reason
