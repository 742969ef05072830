"""The instances of one production variant."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit.rehearsal import folders
from inf2kit.rehearsal.cloud.iam import Execution
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker import model_data as artefacts
from inf2kit.rehearsal.cloud.sagemaker.model_data import Artefacts
from inf2kit.rehearsal.container.spec import ContainerSpec
from inf2kit.rehearsal.local import ports
from inf2kit.rehearsal.local.instance import Instance, last_error
from inf2kit.rehearsal.runtime.server import Target

#: SageMaker's own default for ContainerStartupHealthCheckTimeoutInSeconds.
_STARTUP_S = 600
#: Between the last call that is routed to an instance and the signal that ends it.
_ROUTED_S = 0.5
_LONGEST_REPLACEMENT_WAIT_S = 30.0
_numbers = itertools.count(1)
_ports_lock = threading.Lock()
_ports_taken: set[int] = set()


class FleetError(Exception):
    """A fleet that did not come into service; the message is the endpoint's FailureReason."""


@dataclass(frozen=True)
class Place:
    """Where fleets live on this machine.

    Attributes:
        folder: Of the instances' folders and logs.
        run_dir: A short path, as sockets lie below it.
        artefacts: Fetches what the instances serve.
        say: Tells the cloud's log.
    """

    folder: Path
    run_dir: Path
    artefacts: Artefacts
    say: Callable[[str], None]


class Fleet:
    """Instances that are all alike.

    Args:
        place: Where they live.
        endpoint: The EndpointName.
        variant: A ProductionVariant of the endpoint's configuration.
        model: What CreateModel was told.
        wished: How many instances there should be.
        execution: In whose name the model is loaded.
    """

    def __init__(
        self,
        place: Place,
        endpoint: str,
        variant: Mapping[str, Any],
        model: Mapping[str, Any],
        wished: int,
        execution: Execution,
    ) -> None:
        self.variant = str(variant["VariantName"])
        self.instance_type = str(variant.get("InstanceType", ""))
        self.wished, self.execution = wished, execution
        self.weight = float(variant.get("InitialVariantWeight", 1.0))
        self._place, self._endpoint = place, endpoint
        self._model = model
        self._startup_s = float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _STARTUP_S))
        self._lock = threading.RLock()
        self._serving: list[Instance] = []
        self._starting: list[Instance] = []
        self._laid_out: dict[Instance, dict[str, int]] = {}
        self._stopped: set[Instance] = set()
        self._closed = threading.Event()
        self.image = str(container_of(model).get("Image", ""))
        self.notice = artefacts.notice(uri_of(model))

    @property
    def size(self) -> int:
        """Instances that serve now."""
        return len(self._serving)

    @property
    def in_flight(self) -> int:
        """Calls that run now."""
        return sum(instance.target.in_flight for instance in self._serving)

    def pick(self) -> Target | None:
        """The instance with the fewest calls; one whose /ping says no only where there is no other."""
        serving = self._serving
        ready = [instance for instance in serving if instance.state == "ready"] or serving
        return min((instance.target for instance in ready), key=lambda each: each.in_flight, default=None)

    def resize(self, count: int) -> None:
        """Start or stop instances until there are so many.

        Raises:
            FleetError: one did not get ready; none of those that were started is left.
        """
        with self._lock:
            self.wished = count
            missing = count - len(self._serving) - len(self._starting)
        if missing > 0:
            self._add(missing)
        self._trim()

    def close(self) -> None:
        """Take every instance out of service and stop it, those that start included."""
        self._closed.set()
        with self._lock:
            leaving, self._serving = self._serving, []
            starting, self._starting = self._starting, []
        self._end([*leaving, *starting])

    def abort(self) -> None:
        """Stop every instance at once."""
        self._closed.set()
        with self._lock:
            leaving = [*self._serving, *self._starting]
            self._serving, self._starting = [], []
        self._stop_all(leaving)

    def _add(self, count: int) -> None:
        instances: list[Instance] = []
        try:
            for _ in range(count):
                instances.append(self._launch())  # noqa: PERF401 - the next one may fail
            deadline = time.monotonic() + self._startup_s
            for instance in instances:
                ready = instance.wait(deadline - time.monotonic())
                # Before anything else: on SageMaker it would have failed there.
                self._check_untouched(instance)
                if not ready:
                    raise FleetError(self._unhealthy(instance))
            with self._lock:
                lost = [each for each in instances if each.state == "failed"]
                if lost:
                    raise FleetError(self._unhealthy(lost[0]))
                self._check_open()
                self._starting = [each for each in self._starting if each not in instances]
                self._serving = [*self._serving, *instances]
        except Exception as error:
            # Whatever it is (a full disk, a key pressed): nothing that was started may be left.
            with self._lock:
                self._starting = [each for each in self._starting if each not in instances]
            self._stop_all(instances)
            if isinstance(error, FleetError):
                raise
            raise FleetError(getattr(error, "message", f"{type(error).__name__}: {error}")) from None
        self._trim()

    def _trim(self) -> None:
        """Stop what is there beyond the wish, which may have changed while instances started."""
        with self._lock:
            extra = self._serving[self.wished :]
            self._serving = self._serving[: self.wished]
        self._end(extra)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise FleetError("The endpoint was deleted.")

    def _new(self) -> Instance:
        number = f"i-{next(_numbers):04d}"
        base_dir = self._place.folder / self._endpoint / number
        base_dir.mkdir(parents=True)
        run_dir = Path(tempfile.mkdtemp(prefix="", dir=self._place.run_dir))
        with _ports_lock:
            (port,) = ports.choose_ports(1, _ports_taken)
            _ports_taken.add(port)
        instance = Instance(
            ContainerSpec(
                base_dir=base_dir,
                run_dir=run_dir,
                variables=self._variables(),
                port=port,
                log=self._place.folder / self._endpoint / f"{self.variant}-{number}.log",
            ),
            on_change=self._changed,
        )
        instance.target.variant = self.variant
        instance.target.notice = (
            f"inf2kit-{self.notice}"[:1024] if self.notice else "inf2kit-rehearsal: a CPU"
        )
        return instance

    def _variables(self) -> dict[str, str]:
        return {
            str(name): str(value) for name, value in container_of(self._model).get("Environment", {}).items()
        }

    def _launch(self) -> Instance:
        instance = self._new()
        with self._lock:
            self._check_open()
            self._starting.append(instance)
        try:
            self._begin(instance)
        except Exception:
            with self._lock:
                self._starting.remove(instance)
            self._stop(instance)
            raise
        return instance

    def _begin(self, instance: Instance) -> None:
        number = instance.spec.base_dir.name
        instance.spec.log.write_text(
            f"inf2kit rehearsal: {number} of {self._endpoint}, variant {self.variant}: the container's "
            f"processes on this machine in the place of {self.instance_type or 'an instance'}"
            f"{'; ' + self.notice if self.notice else ''}\n",
            encoding="utf-8",
        )
        # Each instance asks anew: a right that was taken away is missed by the next one.
        self.execution.check_model(uri_of(self._model), objects.below(uri_of(self._model)))
        self._place.artefacts.lay_out(uri_of(self._model), instance.spec.model_dir)
        self._laid_out[instance] = artefacts.snapshot(instance.spec.model_dir)
        self._place.say(f"{self._endpoint}: {number} starts, its log is {instance.spec.log}")
        instance.start()

    def _unhealthy(self, instance: Instance) -> str:
        why = (
            instance.reason
            or f"/ping did not answer 200 within {self._startup_s:g} s; {last_error(instance.spec.log)}"
        )
        return (
            f"The primary container for production variant {self.variant} did not pass the ping health "
            f"check. Please check CloudWatch logs for this endpoint. (In this rehearsal: {why})"
        )

    def _check_untouched(self, instance: Instance) -> None:
        now = artefacts.snapshot(instance.spec.model_dir)
        changed = sorted(set(now.items()) ^ set(self._laid_out.get(instance, now).items()))
        if changed:
            raise FleetError(
                f"The container wrote {changed[0][0]!r} to /opt/ml/model, which is read-only on SageMaker."
            )

    def _changed(self, instance: Instance) -> None:
        """A serving container that has ended is replaced, as SageMaker replaces it."""
        if instance.state == "failed" and instance in self._serving and not self._closed.is_set():
            threading.Thread(target=self._replace, args=(instance,), daemon=True).start()

    def _replace(self, lost: Instance) -> None:
        self._place.say(
            f"{self._endpoint}: {lost.spec.base_dir.name} ended ({lost.reason}), another one starts"
        )
        with self._lock:
            if lost not in self._serving:
                return
            self._serving = [each for each in self._serving if each is not lost]
        self._stop(lost)
        wait_s = 1.0
        while not self._closed.is_set():
            with self._lock:
                if len(self._serving) + len(self._starting) >= self.wished:
                    return
            try:
                self._add(1)
            except FleetError as error:
                self._place.say(f"{self._endpoint}: {error}")
                self._closed.wait(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_REPLACEMENT_WAIT_S)

    def _end(self, instances: list[Instance]) -> None:
        """Stop instances that get no more calls, all at a time, whatever still runs inside."""
        if instances:
            # What was routed to them a moment ago has to reach them before the signal does.
            time.sleep(_ROUTED_S)
        self._stop_all(instances)

    def _stop_all(self, instances: list[Instance]) -> None:
        threads = [threading.Thread(target=self._stop, args=(instance,)) for instance in instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _stop(self, instance: Instance) -> None:
        with self._lock:
            if instance in self._stopped:
                return
            self._stopped.add(instance)
        instance.stop()
        with _ports_lock:
            _ports_taken.discard(instance.spec.port)
        self._laid_out.pop(instance, None)
        folders.delete(instance.spec.base_dir)
        folders.delete(instance.spec.run_dir)


def container_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model's only container."""
    containers = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    found: Mapping[str, Any] = containers[0]
    return found


def uri_of(model: Mapping[str, Any]) -> str:
    """Where a model's files lie."""
    source = container_of(model).get("ModelDataSource", {}).get("S3DataSource", {})
    return str(source.get("S3Uri", ""))
