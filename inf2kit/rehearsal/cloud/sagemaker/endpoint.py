"""The life of one endpoint: created, updated blue/green, rolled back, scaled, deleted.

Each change runs on a thread of its own; ``EndpointStatus`` follows from what the fleets really do.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.sagemaker.fleet import Fleet, FleetError
from inf2kit.rehearsal.runtime.server import Target

#: How often alarms are looked at while an update bakes, in seconds of this machine.
_LOOK_S = 0.1
#: In these an endpoint takes another change.
SETTLED = ("InService", "Failed")
_CALLED = ("InService", "Updating", "RollingBack", "SystemUpdating")


class _RolledBackError(Exception):
    """An update that is undone; the message says why."""


@dataclass
class Route:
    """A share of the traffic, and the fleet that takes it."""

    fleet: Fleet
    weight: float


@dataclass
class Endpoint:
    """One endpoint.

    Attributes:
        name: The EndpointName.
        arn: Of the endpoint.
        config_name: Of the configuration that serves.
        config: That configuration.
        build: A fleet for each variant of a configuration.
        alarms_on: Which alarms of some names are in ALARM.
        clock: Of the waits.
        say: Tells the cloud's log.
        deployment: The DeploymentConfig of the last change that had one.
        status: EndpointStatus.
        failure_reason: FailureReason.
    """

    name: str
    arn: str
    config_name: str
    config: Mapping[str, Any]
    build: Callable[[Mapping[str, Any], Mapping[str, int]], list[Fleet]]
    alarms_on: Callable[[Sequence[str]], list[str]]
    clock: Clock
    say: Callable[[str], None]
    deployment: Mapping[str, Any] = field(default_factory=dict)
    status: str = "Creating"
    failure_reason: str = ""
    created: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.timezone.utc))
    modified: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.timezone.utc))

    def __post_init__(self) -> None:
        self.routes: list[Route] = []
        self._green: list[Fleet] = []
        self._deleting = threading.Event()
        self._changing: threading.Thread | None = None

    @property
    def fleets(self) -> list[Fleet]:
        """The fleets that serve, one for each variant."""
        return [route.fleet for route in self.routes]

    @property
    def called(self) -> bool:
        """Whether calls are taken."""
        return self.status in _CALLED and bool(self.routes)

    def pick(self, variant: str = "") -> Target | None:
        """The container that takes the next call.

        Args:
            variant: The only one asked for.
        """
        routes = [route for route in self.routes if not variant or route.fleet.variant == variant]
        routes = [route for route in routes if route.fleet.size]
        # Who asks for a variant that has no weight gets it; during an exchange the weights say which fleet.
        weights = [route.weight for route in routes]
        if not routes or (not any(weights) and not variant):
            return None
        (chosen,) = random.choices(routes, weights if any(weights) else None)  # noqa: S311
        return chosen.fleet.pick()

    def create(self) -> None:
        """Start the first fleets."""
        self._run(self._create)

    def update(
        self,
        config_name: str,
        config: Mapping[str, Any],
        deployment: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> None:
        """Exchange the fleets for those of another configuration.

        Args:
            config_name: Of the new configuration.
            config: That configuration.
            deployment: How to exchange them, and what undoes it.
            counts: Instances of variants that keep their number.
        """
        self.deployment = deployment
        self._set("Updating")
        self._run(lambda: self._update(config_name, config, deployment, counts))

    def resize(self, counts: Mapping[str, int]) -> None:
        """Change the number of instances of some variants."""
        self._set("Updating")
        self._run(lambda: self._resize(counts))

    def delete(self) -> None:
        """Stop everything, also what is only starting; returns when nothing is left."""
        self._deleting.set()
        self._set("Deleting")
        for fleet in [*self.fleets, *self._green]:
            fleet.abort()
        if self._changing:
            self._changing.join()
        for fleet in [*self.fleets, *self._green]:
            fleet.abort()
        self.routes = []

    def _run(self, change: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                change()
            except Exception as error:
                status = "InService" if self.routes else "Failed"
                self._set(status, f"the rehearsal itself failed: {type(error).__name__}: {error}")

        self._changing = threading.Thread(target=guarded, daemon=True, name=f"endpoint {self.name}")
        self._changing.start()

    def _started(self, fleets: list[Fleet]) -> None:
        """Start fleets, unless the endpoint is being deleted, which then knows nothing of them."""
        self._green = fleets
        if self._deleting.is_set():
            raise FleetError("The endpoint was deleted.")
        _grow(fleets)

    def _create(self) -> None:
        fleets = self.build(self.config, {})
        try:
            self._started(fleets)
        except FleetError as error:
            _abort(fleets)
            self._green = []
            self._set("Failed", str(error))
            return
        self.routes = [Route(fleet, fleet.weight) for fleet in self._green]
        self._green = []
        self._set("InService")

    def _update(
        self,
        config_name: str,
        config: Mapping[str, Any],
        deployment: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> None:
        blue = self.fleets
        sizes = {fleet.variant: fleet.wished for fleet in blue}
        self._green = green = self.build(config, counts)
        alarms = _alarms(deployment)
        try:
            self._look(alarms)
            rolling = deployment.get("RollingUpdatePolicy")
            if rolling:
                self._roll(blue, green, rolling, alarms)
            else:
                self._exchange(blue, green, deployment.get("BlueGreenUpdatePolicy", {}), alarms)
        except Exception as error:
            self._set("RollingBack", str(error))
            self._restore(blue, sizes)
            _abort(green)
            self._green = []
            self._set("InService", str(error))
            return
        for fleet in blue:
            fleet.close()
        self._green = []
        self.config_name, self.config = config_name, config
        self._set("InService")

    def _exchange(
        self, blue: list[Fleet], green: list[Fleet], policy: Mapping[str, Any], alarms: Sequence[str]
    ) -> None:
        """Blue/green: all at once, with a canary first, or in steps."""
        self._started(green)
        routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE"})
        wait_s = float(routing.get("WaitIntervalInSeconds", 0))
        total = sum(fleet.wished for fleet in green)
        for share in _shares(routing, total):
            self.routes = [
                *(Route(fleet, fleet.weight * (1 - share)) for fleet in blue),
                *(Route(fleet, fleet.weight * share) for fleet in green),
            ]
            self.say(f"{self.name}: {100 * share:.0f} % of the calls go to the new fleet")
            self._bake(wait_s, alarms)
        self._bake(float(policy.get("TerminationWaitInSeconds", 0)), alarms)
        self.routes = [Route(fleet, fleet.weight) for fleet in green]

    def _roll(
        self, blue: list[Fleet], green: list[Fleet], policy: Mapping[str, Any], alarms: Sequence[str]
    ) -> None:
        """A batch of instances after the other."""
        wait_s = float(policy.get("WaitIntervalInSeconds", 0))
        wished = {fleet.variant: fleet.wished for fleet in green}
        for fleet in green:
            fleet.wished = 0
        old = {fleet.variant: fleet for fleet in blue}
        while any(fleet.size < wished[fleet.variant] for fleet in green):
            for fleet in green:
                batch = _capacity(policy["MaximumBatchSize"], wished[fleet.variant])
                fleet.resize(min(fleet.size + batch, wished[fleet.variant]))
                self.routes = [Route(each, each.weight * each.size) for each in [*blue, *green]]
                leaving = old.get(fleet.variant)
                if leaving:
                    leaving.resize(max(0, leaving.size - batch))
            self.routes = [Route(each, each.weight * each.size) for each in [*blue, *green]]
            self._bake(wait_s, alarms)
        self.routes = [Route(fleet, fleet.weight) for fleet in green]

    def _restore(self, blue: list[Fleet], sizes: Mapping[str, int]) -> None:
        """Give the old fleets the traffic again, and the instances that they had when the update began."""
        for fleet in blue:
            count = sizes[fleet.variant]
            if fleet.wished == count <= fleet.size:
                continue
            try:
                fleet.resize(count)
            except FleetError as error:
                self.say(f"{self.name}: the old fleet could not be filled again: {error}")
        self.routes = [Route(fleet, fleet.weight) for fleet in blue]

    def _bake(self, seconds: float, alarms: Sequence[str]) -> None:
        remaining = self.clock.here(seconds)
        while remaining > 0:
            self._look(alarms)
            if self._deleting.wait(min(_LOOK_S, remaining)):
                raise _RolledBackError("The endpoint was deleted.")
            remaining -= _LOOK_S
        self._look(alarms)

    def _look(self, alarms: Sequence[str]) -> None:
        if self._deleting.is_set():
            raise _RolledBackError("The endpoint was deleted.")
        on = self.alarms_on(alarms) if alarms else []
        if on:
            raise _RolledBackError(
                f"One or more CloudWatch alarms went into ALARM: {', '.join(on)}. The update was rolled back."
            )

    def _resize(self, counts: Mapping[str, int]) -> None:
        before = {fleet.variant: fleet.wished for fleet in self.fleets}
        try:
            for fleet in self.fleets:
                if fleet.variant in counts:
                    fleet.resize(counts[fleet.variant])
        except FleetError as error:
            for fleet in self.fleets:
                fleet.wished = before[fleet.variant]
            self._set("InService", str(error))
            return
        self._set("InService")

    def _set(self, status: str, reason: str = "") -> None:
        if self._deleting.is_set() and status != "Deleting":
            return
        self.status, self.failure_reason = status, reason
        self.modified = dt.datetime.now(dt.timezone.utc)
        self.say(f"{self.name}: {status}{f': {reason}' if reason else ''}")


def _grow(fleets: list[Fleet]) -> None:
    for fleet in fleets:
        fleet.resize(fleet.wished)


def _abort(fleets: list[Fleet]) -> None:
    for fleet in fleets:
        fleet.abort()


def _alarms(deployment: Mapping[str, Any]) -> list[str]:
    rollback = deployment.get("AutoRollbackConfiguration", {})
    return [str(alarm["AlarmName"]) for alarm in rollback.get("Alarms", [])]


def _shares(routing: Mapping[str, Any], instances: int) -> list[float]:
    """The new fleet's share of the traffic, step by step."""
    kind = routing.get("Type", "ALL_AT_ONCE")
    if kind == "CANARY":
        return [_capacity(routing["CanarySize"], instances) / instances, 1.0]
    if kind == "LINEAR":
        step = _capacity(routing["LinearStepSize"], instances)
        return [min(1.0, reached / instances) for reached in range(step, instances + step, step)]
    return [1.0]


def _capacity(size: Mapping[str, Any], instances: int) -> int:
    """A CapacitySize as a number of instances, at least one."""
    value = float(size["Value"])
    return max(1, int(value if size["Type"] == "INSTANCE_COUNT" else instances * value / 100))
