"""The parts of a preset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from inf2kit import names
from inf2kit.errors import PresetError, suggest
from inf2kit.serving.shapes import StaticShapes


@dataclass(frozen=True)
class Model:
    """The model.

    Attributes:
        id: Its name on the Hugging Face hub.
        gated: Whether the hub asks for a token of an account that has accepted the licence.
    """

    id: str
    gated: bool


@dataclass(frozen=True)
class Compute:
    """The backend and the instances.

    Attributes:
        backend: ``neuron``, ``cpu`` or ``simulated`` (no model: it makes up tokens at a set pace).
        instance_type: The default hosting instance.
        instance_types: Every instance that may be selected.
        tensor_parallel_size: Number of NeuronCores that the weights are split over.
        dtype: Precision of weights and arithmetic: ``float16``, ``bfloat16`` or ``float32``.
        data_parallel_size: Number of engines in one container, each with cores of its own.
        sampling: Where tokens are chosen: on the ``host``, which honours every parameter, or on the
            ``device``, which takes a top_k within 1..256, top_p and temperature.
    """

    backend: str
    instance_type: str
    instance_types: tuple[str, ...]
    tensor_parallel_size: int
    dtype: str
    data_parallel_size: int = 1
    sampling: str = "host"

    @property
    def cores(self) -> int:
        """The NeuronCores of all engines together."""
        return self.tensor_parallel_size * self.data_parallel_size


@dataclass(frozen=True)
class Serving:
    """How requests are admitted.

    Attributes:
        queue_size: Number of prompts that may wait for a row of each engine; one more is answered with 429.
        deadline_s: Seconds from arrival after which a call is answered with the text so far.
        stream_deadline_s: Seconds from arrival after which a stream ends; None for ``deadline_s``. SageMaker
            ends a stream after 480.
    """

    queue_size: int
    deadline_s: float = 55.0
    stream_deadline_s: float | None = None


@dataclass(frozen=True)
class Compile:
    """The SageMaker Processing job that compiles the model, on CPUs and in the endpoint's own image.

    Attributes:
        instance_type: The job's instance. Its memory must hold the weights about three times.
        max_runtime_s: Seconds after which the job is stopped.
    """

    instance_type: str
    max_runtime_s: int = 4 * 3600


@dataclass(frozen=True)
class Preset:
    """A complete choice of model, shapes and instance.

    Attributes:
        name: The file's name without ``.toml``.
        description: One line for people.
        status: What has been tested, such as ``not run on a device``.
        model: The model.
        shapes: The static shapes that it is compiled for.
        compute: The backend and the instances.
        serving: How requests are admitted.
        compile: The job that compiles it; None if there is nothing to compile.
        note: What somebody who chooses it should know besides; None for nothing.
    """

    name: str
    description: str
    status: str
    model: Model
    shapes: StaticShapes
    compute: Compute
    serving: Serving
    compile: Compile | None = None
    note: str | None = None

    @property
    def rows(self) -> int:
        """Rows of one instance: those of all its engines."""
        return self.compute.data_parallel_size * self.shapes.batch_size

    @property
    def endpoint_name(self) -> str:
        """The preset's name with only the characters that SageMaker allows in an endpoint's name."""
        return names.endpoint_name(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the preset's TOML file: no name, and no value that is None."""
        values: dict[str, Any] = {"description": self.description, "status": self.status}
        if self.note is not None:
            values["note"] = self.note
        for name in ("model", "shapes", "compute", "serving", "compile"):
            table = getattr(self, name)
            if table is not None:
                values[name] = {
                    key: list(value) if isinstance(value, tuple) else value
                    for key, value in asdict(table).items()
                    if value is not None
                }
        return values

    def to_manifest(self) -> dict[str, Any]:
        """Return what a package's manifest says of the preset: not where it is compiled, nor its note."""
        values = asdict(self)
        del values["compile"], values["note"]
        if self.compute.data_parallel_size == 1:
            # Packages of earlier releases are of one engine, and keep their digests.
            del values["compute"]["data_parallel_size"]
        if self.compute.sampling == "host":
            del values["compute"]["sampling"]
        return values

    def with_instance_type(self, instance_type: str) -> Preset:
        """Return the same preset on another of its instances.

        Raises:
            PresetError: the preset does not run on that instance.
        """
        choices = self.compute.instance_types
        if instance_type not in choices:
            raise PresetError(
                f"preset {self.name!r} does not run on {instance_type!r}"
                f"{suggest(instance_type, choices) or ';'} choose one of {', '.join(choices)}"
            )
        return replace(self, compute=replace(self.compute, instance_type=instance_type))
