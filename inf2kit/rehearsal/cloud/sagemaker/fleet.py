"""The fleet of one production variant: scaled, health-checked, and repaired when a container is lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from inf2kit.rehearsal.cloud.iam import ExecutionRole
from inf2kit.rehearsal.cloud.sagemaker.launcher import FleetContext, Launcher
from inf2kit.rehearsal.cloud.sagemaker.model_data import container_of
from inf2kit.rehearsal.local.instance import Instance, last_error
from inf2kit.rehearsal.runtime.containers import Target

#: SageMaker's default for ContainerStartupHealthCheckTimeoutInSeconds.
_STARTUP_S = 600
#: RoutingStrategy of a variant: SageMaker's default is the first.
ROUTING_STRATEGIES = ("RANDOM", "LEAST_OUTSTANDING_REQUESTS")
#: Seconds between the last call that is routed to an instance and the signal that ends it.
_ROUTED_S = 0.5
_MAX_REPLACEMENT_WAIT_S = 30.0


class FleetError(Exception):
    """A fleet that did not come into service; the message is the endpoint's FailureReason."""


class Fleet:
    """The instances of one production variant.

    Args:
        context: What all fleets of the cloud share.
        endpoint: The EndpointName.
        variant: A ProductionVariant of the endpoint's configuration.
        model: The CreateModel request of the variant's model.
        desired: The desired number of instances.
        role: The execution role that loads the model.
    """

    def __init__(
        self,
        context: FleetContext,
        endpoint: str,
        variant: Mapping[str, Any],
        model: Mapping[str, Any],
        desired: int,
        role: ExecutionRole,
    ) -> None:
        self.variant = str(variant["VariantName"])
        self.instance_type = str(variant.get("InstanceType", ""))
        self.weight = float(variant.get("InitialVariantWeight", 1.0))
        self.image = str(container_of(model).get("Image", ""))
        self.desired, self.role = desired, role
        self._endpoint, self._log = endpoint, context.log
        self._startup_s = float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _STARTUP_S))
        routing = variant.get("RoutingConfig", {}).get("RoutingStrategy", ROUTING_STRATEGIES[0])
        self._is_routed_at_random = routing == ROUTING_STRATEGIES[0]
        self._launcher = Launcher(
            context, endpoint, self.variant, self.instance_type, model, role, self._replace_if_failed
        )
        self._lock = threading.RLock()
        self._serving: list[Instance] = []
        self._starting: list[Instance] = []
        self._closed = threading.Event()

    @property
    def size(self) -> int:
        """The number of instances in service."""
        return len(self._serving)

    @property
    def in_flight(self) -> int:
        """The number of running calls."""
        return sum(instance.target.in_flight for instance in self._serving)

    def pick(self) -> Target | None:
        """Choose an instance by the routing strategy; an unhealthy one only if all are; None without any."""
        serving = self._serving
        ready = [instance for instance in serving if instance.state == "ready"] or serving
        if ready and self._is_routed_at_random:
            return random.choice(ready).target  # noqa: S311
        return min((instance.target for instance in ready), key=lambda target: target.in_flight, default=None)

    def resize(self, count: int) -> None:
        """Start or stop instances until there are ``count``.

        Raises:
            FleetError: an instance did not get ready; all new instances are stopped.
        """
        with self._lock:
            self.desired = count
            missing = count - len(self._serving) - len(self._starting)
        if missing > 0:
            self._add(missing)
        self._stop_surplus()

    def close(self) -> None:
        """Take every instance out of service, then stop it; starting instances too."""
        self._drain(self._take_all())

    def abort(self) -> None:
        """Stop every instance at once."""
        self._launcher.stop_all(self._take_all())

    def _take_all(self) -> list[Instance]:
        self._closed.set()
        with self._lock:
            instances = [*self._serving, *self._starting]
            self._serving, self._starting = [], []
        return instances

    def _add(self, count: int) -> None:
        """Start instances and put them into service together."""
        instances: list[Instance] = []
        try:
            for _ in range(count):
                instances.append(self._launch())  # noqa: PERF401 - the next launch may fail
            self._wait_until_ready(instances)
            with self._lock:
                failed = [instance for instance in instances if instance.state == "failed"]
                if failed:
                    raise FleetError(self._failure_reason(failed[0]))
                self._check_open()
                self._starting = [other for other in self._starting if other not in instances]
                self._serving = [*self._serving, *instances]
        except Exception as error:
            # On any error, such as a full disk, no instance may be left running.
            with self._lock:
                self._starting = [other for other in self._starting if other not in instances]
            self._launcher.stop_all(instances)
            if isinstance(error, FleetError):
                raise
            raise FleetError(getattr(error, "message", f"{type(error).__name__}: {error}")) from None
        self._stop_surplus()

    def _launch(self) -> Instance:
        instance = self._launcher.prepare()
        with self._lock:
            self._check_open()
            self._starting.append(instance)
        try:
            self._launcher.start(instance)
        except Exception:
            with self._lock:
                self._starting.remove(instance)
            self._launcher.stop(instance)
            raise
        return instance

    def _wait_until_ready(self, instances: list[Instance]) -> None:
        deadline = time.monotonic() + self._startup_s
        for instance in instances:
            ready = instance.wait(deadline - time.monotonic())
            # Checked first: on SageMaker the write itself fails, before /ping can.
            file = self._launcher.changed_file(instance)
            if file is not None:
                raise FleetError(
                    f"The container wrote {file!r} to /opt/ml/model, which is read-only on SageMaker."
                )
            if not ready:
                raise FleetError(self._failure_reason(instance))

    def _failure_reason(self, instance: Instance) -> str:
        reason = (
            instance.reason
            or f"/ping did not answer 200 within {self._startup_s:g} s; {last_error(instance.spec.log)}"
        )
        return (
            f"The primary container for production variant {self.variant} did not pass the ping health "
            f"check. Please check CloudWatch logs for this endpoint. (In this rehearsal: {reason})"
        )

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise FleetError("The endpoint was deleted.")

    def _stop_surplus(self) -> None:
        """Stop instances beyond the desired number, which may have changed while instances started."""
        with self._lock:
            surplus = self._serving[self.desired :]
            self._serving = self._serving[: self.desired]
        self._drain(surplus)

    def _drain(self, instances: list[Instance]) -> None:
        """Stop instances that get no more calls; calls that run in them are not waited for."""
        if instances:
            # A call that was routed a moment ago must reach its instance before the signal does.
            time.sleep(_ROUTED_S)
        self._launcher.stop_all(instances)

    def _replace_if_failed(self, instance: Instance) -> None:
        """Replace a serving container that has ended, as SageMaker does."""
        if instance.state == "failed" and instance in self._serving and not self._closed.is_set():
            threading.Thread(target=self._replace, args=(instance,), daemon=True).start()

    def _replace(self, failed: Instance) -> None:
        self._log(
            f"{self._endpoint}: {failed.spec.base_dir.name} ended ({failed.reason}), another one starts"
        )
        with self._lock:
            if failed not in self._serving:
                return
            self._serving = [instance for instance in self._serving if instance is not failed]
        self._launcher.stop(failed)
        wait_s = 1.0
        while not self._closed.is_set():
            with self._lock:
                if len(self._serving) + len(self._starting) >= self.desired:
                    return
            try:
                self._add(1)
            except FleetError as error:
                self._log(f"{self._endpoint}: {error}")
                self._closed.wait(wait_s)
                wait_s = min(2 * wait_s, _MAX_REPLACEMENT_WAIT_S)
