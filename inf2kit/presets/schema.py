"""What a preset holds, and the one place where it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from inf2kit.catalog import Instance
from inf2kit.errors import PresetError
from inf2kit.names import endpoint_name
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire.parameters import nearest

BACKENDS = ("neuron", "cpu", "simulated")
DTYPES = ("float16", "bfloat16", "float32")
#: SageMaker ends a real-time call after 60 s; the engine answers with what it has before that.
REAL_TIME_LIMIT_S = 60.0
DEFAULT_DEADLINE_S = 55.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Model:
    """Which model.

    Attributes:
        id: Its name on the Hugging Face hub.
        gated: Whether the hub asks for a token that has accepted the licence.
    """

    id: str
    gated: bool


@dataclass(frozen=True)
class Shapes:
    """The static shapes: ``batch_size`` rows of ``sequence_length`` tokens (prompt and new together);
    ``max_context_length`` bounds the prompt, None leaves it to the sequence."""

    batch_size: int
    sequence_length: int
    max_context_length: int | None = None

    def static(self) -> StaticShapes:
        """The same as the arithmetic that the engine uses."""
        return StaticShapes.resolve(self.batch_size, self.sequence_length, self.max_context_length)


@dataclass(frozen=True)
class Compute:
    """Where it runs.

    Attributes:
        backend: ``neuron``, ``cpu`` or ``simulated`` (no model: it makes up tokens at a set pace).
        instance_type: The default hosting instance.
        instance_types: Every instance that may be selected.
        tensor_parallel_size: NeuronCores the weights are split over.
        dtype: Precision of weights and arithmetic.
    """

    backend: str
    instance_type: str
    instance_types: tuple[str, ...]
    tensor_parallel_size: int
    dtype: str


@dataclass(frozen=True)
class Serving:
    """How requests are admitted.

    Attributes:
        queue_size: Prompts that may wait for a row; one more is answered with 429.
        deadline_s: Seconds from arrival after which a call is answered with what there is.
    """

    queue_size: int
    deadline_s: float = DEFAULT_DEADLINE_S


@dataclass(frozen=True)
class Compile:
    """Where SageMaker compiles it: a Processing job on CPUs, in the endpoint's own image.

    Attributes:
        instance_type: Of the job. Its memory must hold the weights about three times.
        max_runtime_s: Seconds after which the job is stopped.
    """

    instance_type: str
    max_runtime_s: int = 4 * 3600


@dataclass(frozen=True)
class Preset:
    """A complete choice.

    Attributes:
        name: The file's name without ``.toml``.
        description: One line for people.
        status: What has been proven, such as ``not run on a device``.
        compile: Where SageMaker compiles it; None where there is nothing to compile.
    """

    name: str
    description: str
    status: str
    model: Model
    shapes: Shapes
    compute: Compute
    serving: Serving
    compile: Compile | None = None

    @property
    def endpoint_name(self) -> str:
        """The preset's name in the letters that SageMaker allows in an endpoint's name."""
        return endpoint_name(self.name)

    def described(self) -> dict[str, Any]:
        """The preset as a package says it: where it would be compiled is no property of what was."""
        values = asdict(self)
        del values["compile"]
        return values

    def on(self, instance_type: str) -> Preset:
        """The same preset on another of its instances.

        Raises:
            PresetError: the preset does not run on that instance.
        """
        choices = self.compute.instance_types
        if instance_type not in choices:
            raise PresetError(
                f"preset {self.name!r} does not run on {instance_type!r}"
                f"{nearest([instance_type], *choices) or ';'} choose one of {', '.join(choices)}"
            )
        return replace(self, compute=replace(self.compute, instance_type=instance_type))


class _Table:
    """One table of a preset's file: takes its keys one by one, then refuses what is left over."""

    def __init__(self, preset: str, name: str, value: object) -> None:
        self._where = f"preset {preset!r}, [{name}]" if name else f"preset {preset!r}"
        if not isinstance(value, Mapping):
            raise PresetError(f"{self._where} is missing or not a table; write [{name}] with its keys")
        self._values = dict(value)
        self._asked: list[str] = []

    def take(self, key: str, kind: type[_T], allowed: str = "", default: _T | None = None) -> _T:
        self._asked.append(key)
        value = self._values.pop(key, default)
        if value is None:
            misspelt = (
                nearest([key], *self._values).replace("did you mean", "is it").replace("?", ", misspelt?")
            )
            raise PresetError(
                f"{self._where}: the key {key!r} is missing; add {allowed or f'a {kind.__name__}'}{misspelt}"
            )
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, value, allowed or f"a {kind.__name__}")
        return value

    def choice(self, key: str, among: tuple[str, ...]) -> str:
        value = self.take(key, str, f"one of {', '.join(among)}")
        if value not in among:
            raise self.wrong(key, value, f"one of {', '.join(among)}", nearest([value], *among))
        return value

    def within(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.take(key, int, f"a whole number within {low}..{high}", default)
        if not low <= value <= high:
            raise self.wrong(key, value, f"within {low}..{high}")
        return value

    def wrong(self, key: str, value: object, allowed: str, close: str = "") -> PresetError:
        return PresetError(f"{self._where}: {key} is {value!r}; it must be {allowed}{close}")

    def has(self, key: str) -> bool:
        return key in self._values

    def close(self) -> None:
        for key in self._values:
            raise PresetError(
                f"{self._where}: unknown key {key!r}{nearest([key], *self._asked) or ';'} "
                f"allowed are {', '.join(self._asked)}"
            )


def parse_preset(name: str, values: Mapping[str, object], *, instances: Mapping[str, Instance]) -> Preset:
    """A preset from a TOML file's values.

    Args:
        name: The preset's name.
        values: The file's content.
        instances: The instance types there are.

    Raises:
        PresetError: naming the key, what is allowed and the nearest spelling.
    """
    top = _Table(name, "", values)
    description, status = top.take("description", str), top.take("status", str)
    model_values, shape_values, compute_values, serving_values = (
        top.take(table, dict, f"a table [{table}]") for table in ("model", "shapes", "compute", "serving")
    )
    compile_values = top.take("compile", dict, "a table [compile]") if top.has("compile") else None
    top.close()

    table = _Table(name, "model", model_values)
    model = Model(id=table.take("id", str), gated=table.take("gated", bool))
    table.close()

    table = _Table(name, "shapes", shape_values)
    batch_size, sequence_length = (
        table.within("batch_size", 1, 256),
        table.within("sequence_length", 2, 131072),
    )
    context = (
        table.within("max_context_length", 1, sequence_length - 1)
        if table.has("max_context_length")
        else None
    )
    shapes = Shapes(batch_size, sequence_length, context)
    table.close()

    compute = _parse_compute(_Table(name, "compute", compute_values), instances)

    table = _Table(name, "serving", serving_values)
    queue_size = table.within("queue_size", 0, 10_000)
    deadline_s = table.take("deadline_s", float, "seconds", DEFAULT_DEADLINE_S)
    if not 0 < deadline_s < REAL_TIME_LIMIT_S:
        raise table.wrong("deadline_s", deadline_s, f"above 0 and under {REAL_TIME_LIMIT_S:g}")
    table.close()
    serving = Serving(queue_size, deadline_s)
    return Preset(
        name, description, status, model, shapes, compute, serving, _parse_compile(name, compile_values)
    )


def _parse_compile(name: str, values: Mapping[str, object] | None) -> Compile | None:
    if values is None:
        return None
    table = _Table(name, "compile", values)
    # The list of instances is botocore's, and is looked at when a job is made of it.
    instance_type = table.take("instance_type", str, "an instance of SageMaker Processing")
    made = Compile(instance_type, table.within("max_runtime_s", 600, 5 * 86_400, Compile.max_runtime_s))
    table.close()
    return made


def _parse_compute(table: _Table, instances: Mapping[str, Instance]) -> Compute:
    names = tuple(instances)
    backend, dtype = table.choice("backend", BACKENDS), table.choice("dtype", DTYPES)
    instance_type = table.choice("instance_type", names)
    selectable = table.take("instance_types", list, "a list of instance types", [instance_type])
    for other in selectable:
        if other not in names:
            raise table.wrong(
                "instance_types", other, f"among {', '.join(names)}", nearest([str(other)], *names)
            )
    if instance_type not in selectable:
        raise table.wrong("instance_types", selectable, f"a list that holds instance_type {instance_type!r}")
    tensor_parallel_size = table.within("tensor_parallel_size", 1, 64)
    for other in selectable if backend == "neuron" else ():
        cores = instances[other].cores
        if tensor_parallel_size > cores:
            raise table.wrong(
                "tensor_parallel_size", tensor_parallel_size, f"at most {cores}, the cores of {other}"
            )
    table.close()
    return Compute(backend, instance_type, tuple(selectable), tensor_parallel_size, dtype)
