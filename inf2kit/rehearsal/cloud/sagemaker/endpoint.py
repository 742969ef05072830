"""The life of one endpoint: created, updated blue/green or in batches, rolled back, scaled, deleted.

Each change runs on a thread of its own, and ``EndpointStatus`` follows the real state of the fleets.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.sagemaker.deployment_config import (
    alarm_names,
    instance_count,
    instances_of,
    traffic_shares,
)
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet, FleetError
from inf2kit.rehearsal.cloud.sagemaker.records import utc_now
from inf2kit.rehearsal.runtime.containers import Target

#: Seconds of this machine between two evaluations of the alarms while an update bakes.
_POLL_S = 0.1
#: In these states an endpoint accepts a change.
SETTLED = ("InService", "Failed")
_TAKES_CALLS = ("InService", "Updating", "RollingBack", "SystemUpdating")


class _RolledBackError(Exception):
    """An update that is rolled back; the message says why."""


@dataclass
class Route:
    """A fleet and its share of the traffic."""

    fleet: Fleet
    weight: float


@dataclass
class Endpoint:
    """One endpoint.

    Attributes:
        name: The EndpointName.
        arn: The EndpointArn.
        config_name: The EndpointConfigName in use.
        config: The configuration in use.
        build_fleets: Builds a fleet for each variant of a configuration; the mapping has the instance counts
            of variants that keep their number.
        in_alarm: Returns those of the named alarms that are in ALARM.
        clock: Shortens AWS's deliberate waits.
        log: Writes a line to the cloud's log.
        deployment: The DeploymentConfig of the last update.
        status: EndpointStatus.
        failure_reason: FailureReason.
        created: CreationTime.
        modified: LastModifiedTime.
    """

    name: str
    arn: str
    config_name: str
    config: Mapping[str, Any]
    build_fleets: Callable[[Mapping[str, Any], Mapping[str, int]], list[Fleet]]
    in_alarm: Callable[[Sequence[str]], list[str]]
    clock: Clock
    log: Callable[[str], None]
    deployment: Mapping[str, Any] = field(default_factory=dict)
    status: str = "Creating"
    failure_reason: str = ""
    created: dt.datetime = field(default_factory=utc_now)
    modified: dt.datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        self.routes: list[Route] = []
        self._green: list[Fleet] = []
        self._deleting = threading.Event()
        self._change: threading.Thread | None = None

    @property
    def fleets(self) -> list[Fleet]:
        """The fleets in service, one for each variant."""
        return [route.fleet for route in self.routes]

    @property
    def takes_calls(self) -> bool:
        """Whether the endpoint takes calls."""
        return self.status in _TAKES_CALLS and bool(self.routes)

    @property
    def instances(self) -> Counter[str]:
        """The instances that it has or starts, by type; those of a failed endpoint are gone."""
        counts: Counter[str] = Counter()
        if self.status == "Creating":
            return instances_of(self.config, {})
        for fleet in [*self.fleets, *self._green]:
            counts[fleet.instance_type] += max(fleet.desired, fleet.size)
        return counts

    def pick(self, variant: str = "") -> Target | None:
        """Choose the container of the next call; None if no instance can take it.

        Args:
            variant: The TargetVariant; empty means any.
        """
        routes = [route for route in self.routes if not variant or route.fleet.variant == variant]
        routes = [route for route in routes if route.fleet.size]
        # A TargetVariant is called even without weight. During an update the weights divide the traffic
        # between the old and the new fleet.
        weights = [route.weight for route in routes]
        if not routes or (not any(weights) and not variant):
            return None
        (route,) = random.choices(routes, weights if any(weights) else None)  # noqa: S311
        return route.fleet.pick()

    def create(self) -> None:
        """Start the first fleets, in the background."""
        self._run(self._create)

    def update(
        self,
        config_name: str,
        config: Mapping[str, Any],
        deployment: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> None:
        """Exchange the fleets for those of another configuration, in the background.

        Args:
            config_name: The new EndpointConfigName.
            config: The new configuration.
            deployment: The DeploymentConfig.
            counts: The instance counts of variants that keep their number.
        """
        self.deployment = deployment
        self._set_status("Updating")
        self._run(lambda: self._update(config_name, config, deployment, counts))

    def resize(self, counts: Mapping[str, int]) -> None:
        """Change the instance counts of some variants, in the background."""
        self._set_status("Updating")
        self._run(lambda: self._resize(counts))

    def delete(self) -> None:
        """Stop every instance, starting ones too; return when all have stopped."""
        self._deleting.set()
        self._set_status("Deleting")
        _abort([*self.fleets, *self._green])
        if self._change:
            self._change.join()
        # The change may have built fleets before it ended.
        _abort([*self.fleets, *self._green])
        self.routes = []

    def _run(self, change: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                change()
            except Exception as error:
                status = "InService" if self.routes else "Failed"
                self._set_status(status, f"the rehearsal itself failed: {type(error).__name__}: {error}")

        self._change = threading.Thread(target=guarded, daemon=True, name=f"endpoint {self.name}")
        self._change.start()

    def _start(self, fleets: list[Fleet]) -> None:
        """Start new fleets, unless the endpoint is being deleted and would not stop them."""
        self._green = fleets
        if self._deleting.is_set():
            raise FleetError("The endpoint was deleted.")
        for fleet in fleets:
            fleet.resize(fleet.desired)

    def _create(self) -> None:
        fleets = self.build_fleets(self.config, {})
        try:
            self._start(fleets)
        except FleetError as error:
            _abort(fleets)
            self._green = []
            self._set_status("Failed", str(error))
            return
        self.routes = [Route(fleet, fleet.weight) for fleet in fleets]
        self._green = []
        self._set_status("InService")

    def _update(
        self,
        config_name: str,
        config: Mapping[str, Any],
        deployment: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> None:
        blue = self.fleets
        sizes = {fleet.variant: fleet.desired for fleet in blue}
        self._green = green = self.build_fleets(config, counts)
        alarms = alarm_names(deployment)
        try:
            self._check_alarms(alarms)
            rolling = deployment.get("RollingUpdatePolicy")
            if rolling:
                self._update_rolling(blue, green, rolling, alarms)
            else:
                self._update_blue_green(blue, green, deployment.get("BlueGreenUpdatePolicy", {}), alarms)
        except Exception as error:
            self._set_status("RollingBack", str(error))
            self._restore(blue, sizes)
            _abort(green)
            self._green = []
            self._set_status("InService", str(error))
            return
        for fleet in blue:
            fleet.close()
        self._green = []
        self.config_name, self.config = config_name, config
        self._set_status("InService")

    def _update_blue_green(
        self, blue: list[Fleet], green: list[Fleet], policy: Mapping[str, Any], alarms: Sequence[str]
    ) -> None:
        """Move the traffic all at once, with a canary first, or in steps."""
        self._start(green)
        routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE"})
        wait_s = float(routing.get("WaitIntervalInSeconds", 0))
        instances = sum(fleet.desired for fleet in green)
        for share in traffic_shares(routing, instances):
            self.routes = [
                *(Route(fleet, fleet.weight * (1 - share)) for fleet in blue),
                *(Route(fleet, fleet.weight * share) for fleet in green),
            ]
            self.log(f"{self.name}: {100 * share:.0f} % of the calls go to the new fleet")
            self._bake(wait_s, alarms)
        self._bake(float(policy.get("TerminationWaitInSeconds", 0)), alarms)
        self.routes = [Route(fleet, fleet.weight) for fleet in green]

    def _update_rolling(
        self, blue: list[Fleet], green: list[Fleet], policy: Mapping[str, Any], alarms: Sequence[str]
    ) -> None:
        """Replace the instances batch by batch."""
        wait_s = float(policy.get("WaitIntervalInSeconds", 0))
        sizes = {fleet.variant: fleet.desired for fleet in green}
        for fleet in green:
            fleet.desired = 0
        blue_by_variant = {fleet.variant: fleet for fleet in blue}
        while any(fleet.size < sizes[fleet.variant] for fleet in green):
            for fleet in green:
                size = sizes[fleet.variant]
                batch = instance_count(policy["MaximumBatchSize"], size)
                fleet.resize(min(fleet.size + batch, size))
                self._route_by_size(blue, green)
                old = blue_by_variant.get(fleet.variant)
                if old:
                    old.resize(max(0, old.size - batch))
            self._route_by_size(blue, green)
            self._bake(wait_s, alarms)
        self.routes = [Route(fleet, fleet.weight) for fleet in green]

    def _route_by_size(self, blue: list[Fleet], green: list[Fleet]) -> None:
        self.routes = [Route(fleet, fleet.weight * fleet.size) for fleet in [*blue, *green]]

    def _restore(self, blue: list[Fleet], sizes: Mapping[str, int]) -> None:
        """Route all traffic to the old fleets, at the size that they had when the update began."""
        for fleet in blue:
            count = sizes[fleet.variant]
            if fleet.desired == count <= fleet.size:
                continue
            try:
                fleet.resize(count)
            except FleetError as error:
                self.log(f"{self.name}: the old fleet could not be filled again: {error}")
        self.routes = [Route(fleet, fleet.weight) for fleet in blue]

    def _bake(self, seconds: float, alarms: Sequence[str]) -> None:
        remaining_s = self.clock.shorten(seconds)
        while remaining_s > 0:
            self._check_alarms(alarms)
            # The next check notices a deletion.
            self._deleting.wait(min(_POLL_S, remaining_s))
            remaining_s -= _POLL_S
        self._check_alarms(alarms)

    def _check_alarms(self, alarms: Sequence[str]) -> None:
        if self._deleting.is_set():
            raise _RolledBackError("The endpoint was deleted.")
        in_alarm = self.in_alarm(alarms) if alarms else []
        if in_alarm:
            raise _RolledBackError(
                f"One or more CloudWatch alarms went into ALARM: {', '.join(in_alarm)}. "
                "The update was rolled back."
            )

    def _resize(self, counts: Mapping[str, int]) -> None:
        before = {fleet.variant: fleet.desired for fleet in self.fleets}
        try:
            for fleet in self.fleets:
                if fleet.variant in counts:
                    fleet.resize(counts[fleet.variant])
        except FleetError as error:
            # The variant that failed has its old instances; the others are given theirs back.
            self._restore(self.fleets, before)
            self._set_status("InService", str(error))
            return
        self._set_status("InService")

    def _set_status(self, status: str, reason: str = "") -> None:
        if self._deleting.is_set() and status != "Deleting":
            return
        self.status, self.failure_reason = status, reason
        self.modified = utc_now()
        self.log(f"{self.name}: {status}{f': {reason}' if reason else ''}")


def _abort(fleets: list[Fleet]) -> None:
    for fleet in fleets:
        fleet.abort()
