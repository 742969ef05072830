"""Launching and stopping one instance: its folders, port, log, model directory and variables."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit.rehearsal import folders
from inf2kit.rehearsal.cloud.iam import ExecutionRole
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.rehearsal.cloud.sagemaker import model_data
from inf2kit.rehearsal.cloud.sagemaker.model_data import ModelDataCache, container_of, uri_of
from inf2kit.rehearsal.container.spec import ContainerSpec
from inf2kit.rehearsal.local import ports
from inf2kit.rehearsal.local.instance import Instance

#: Instance numbers are unique within the cloud.
_numbers = itertools.count(1)
_ports_lock = threading.Lock()
_ports_taken: set[int] = set()


@dataclass(frozen=True)
class FleetContext:
    """What all fleets of the cloud share.

    Attributes:
        folder: The folder of the instances' folders and logs.
        run_dir: A short path for the containers' sockets.
        model_data: The downloaded model data.
        log: Writes a line to the cloud's log.
    """

    folder: Path
    run_dir: Path
    model_data: ModelDataCache
    log: Callable[[str], None]


class Launcher:
    """Launches and stops the instances of one production variant.

    Args:
        context: What all fleets of the cloud share.
        endpoint: The EndpointName.
        variant: The VariantName.
        instance_type: The variant's InstanceType.
        model: The CreateModel request.
        role: The execution role that loads the model.
        on_change: Called after each change of an instance's state.
    """

    def __init__(
        self,
        context: FleetContext,
        endpoint: str,
        variant: str,
        instance_type: str,
        model: Mapping[str, Any],
        role: ExecutionRole,
        on_change: Callable[[Instance], None],
    ) -> None:
        self._context, self._endpoint, self._variant = context, endpoint, variant
        self._instance_type, self._model, self._role = instance_type, model, role
        self._on_change = on_change
        self._notice = model_data.read_notice(uri_of(model))
        self._lock = threading.Lock()
        self._snapshots: dict[Instance, dict[str, int]] = {}
        self._stopped: set[Instance] = set()

    def prepare(self) -> Instance:
        """Create an instance's folders and choose its port."""
        number = f"i-{next(_numbers):04d}"
        base_dir = self._context.folder / self._endpoint / number
        base_dir.mkdir(parents=True)
        run_dir = Path(tempfile.mkdtemp(prefix="", dir=self._context.run_dir))
        with _ports_lock:
            (port,) = ports.choose_ports(1, _ports_taken)
            _ports_taken.add(port)
        variables = container_of(self._model).get("Environment", {})
        spec = ContainerSpec(
            base_dir=base_dir,
            run_dir=run_dir,
            variables={str(name): str(value) for name, value in variables.items()},
            port=port,
            log=self._context.folder / self._endpoint / f"{self._variant}-{number}.log",
        )
        instance = Instance(spec, on_change=self._on_change)
        instance.target.variant = self._variant
        instance.target.notice = (
            f"inf2kit-{self._notice}"[:1024] if self._notice else "inf2kit-rehearsal: a CPU"
        )
        return instance

    def start(self, instance: Instance) -> None:
        """Load the model data and start the container.

        Raises:
            AwsError: the role may not read the model data, or there is none.
        """
        number, uri = instance.spec.base_dir.name, uri_of(self._model)
        instance.spec.log.write_text(
            f"inf2kit rehearsal: {number} of {self._endpoint}, variant {self._variant}: the container's "
            f"processes on this machine in the place of {self._instance_type or 'an instance'}"
            f"{'; ' + self._notice if self._notice else ''}\n",
            encoding="utf-8",
        )
        # Checked for each instance: a permission may have been removed since CreateModel.
        self._role.check_model(uri, objects.list_prefix(uri))
        self._context.model_data.link(uri, instance.spec.model_dir)
        self._snapshots[instance] = model_data.snapshot(instance.spec.model_dir)
        self._context.log(f"{self._endpoint}: {number} starts, its log is {instance.spec.log}")
        instance.start()

    def changed_file(self, instance: Instance) -> str | None:
        """Name a file that the container wrote to its model directory; None if it wrote nothing."""
        files = model_data.snapshot(instance.spec.model_dir)
        changes = set(files.items()) ^ set(self._snapshots.get(instance, files).items())
        return min(changes)[0] if changes else None

    def stop(self, instance: Instance) -> None:
        """Stop the container and delete its folders; a second call does nothing."""
        with self._lock:
            if instance in self._stopped:
                return
            self._stopped.add(instance)
        instance.stop()
        with _ports_lock:
            _ports_taken.discard(instance.spec.port)
        self._snapshots.pop(instance, None)
        folders.delete(instance.spec.base_dir)
        folders.delete(instance.spec.run_dir)

    def stop_all(self, instances: list[Instance]) -> None:
        """Stop instances in parallel."""
        threads = [threading.Thread(target=self.stop, args=(instance,)) for instance in instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
