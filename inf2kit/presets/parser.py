"""Parsing presets: the values of a TOML file, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from inf2kit import catalog
from inf2kit.errors import PresetError, suggest
from inf2kit.presets.schema import Compile, Compute, Model, Preset, Serving
from inf2kit.serving.shapes import StaticShapes

BACKENDS = ("neuron", "cpu", "simulated")
DTYPES = ("float16", "bfloat16", "float32")
SAMPLINGS = ("host", "device")
#: SageMaker ends a real-time call after 60 s; the engine must answer before that.
REAL_TIME_LIMIT_S = 60.0
#: Seconds after which SageMaker ends a stream.
STREAM_LIMIT_S = 480.0

_T = TypeVar("_T")


def parse_preset(name: str, values: Mapping[str, object]) -> Preset:
    """Make a preset from the values of a TOML file.

    Args:
        name: The preset's name.
        values: The file's content.

    Raises:
        PresetError: naming the key, what is allowed and the nearest spelling.
    """
    top = _TableReader(name, "", values)
    preset = Preset(
        name=name,
        description=top.read("description", str),
        status=top.read("status", str),
        note=top.read("note", str) if top.has("note") else None,
        model=_parse_model(top.read_table("model")),
        shapes=_parse_shapes(top.read_table("shapes")),
        compute=_parse_compute(top.read_table("compute")),
        serving=_parse_serving(top.read_table("serving")),
        compile=_parse_compile(top.read_table("compile")) if top.has("compile") else None,
    )
    top.reject_unknown_keys()
    return preset


class _TableReader:
    """Reads the keys of one table, one by one; those that are left in the end are unknown."""

    def __init__(self, preset: str, name: str, values: Mapping[str, object]) -> None:
        self._preset = preset
        self._where = f"preset {preset!r}, [{name}]" if name else f"preset {preset!r}"
        self._unread = dict(values)
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        """Whether a key is in the table and was not read yet."""
        return key in self._unread

    def read(self, key: str, kind: type[_T], allowed: str = "", default: _T | None = None) -> _T:
        """Read the value of a key, which must be of one type."""
        self._known.append(key)
        allowed = allowed or f"a {kind.__name__}"
        value = self._unread.pop(key, default)
        if value is None:
            close = suggest(key, self._unread)
            misspelt = close.replace("did you mean", "is it").replace("?", ", misspelt?")
            raise PresetError(f"{self._where}: the key {key!r} is missing; add {allowed}{misspelt}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, value, allowed)
        return value

    def read_table(self, name: str) -> _TableReader:
        """Read a table within this one."""
        values: dict[str, Any] = self.read(name, dict, f"a table [{name}]")
        return _TableReader(self._preset, name, values)

    def read_choice(self, key: str, choices: tuple[str, ...]) -> str:
        """Read a text that must be one of several."""
        value = self.read(key, str, f"one of {', '.join(choices)}")
        if value not in choices:
            raise self.error(key, value, f"one of {', '.join(choices)}", suggest(value, choices))
        return value

    def read_int(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Read a whole number within bounds, both included."""
        value = self.read(key, int, f"a whole number within {low}..{high}", default)
        if not low <= value <= high:
            raise self.error(key, value, f"within {low}..{high}")
        return value

    def error(self, key: str, value: object, allowed: str, close: str = "") -> PresetError:
        """Make the error of a wrong value."""
        return PresetError(f"{self._where}: {key} is {value!r}; it must be {allowed}{close}")

    def reject_unknown_keys(self) -> None:
        """Raise PresetError for a key that nothing has read."""
        for key in self._unread:
            raise PresetError(
                f"{self._where}: unknown key {key!r}{suggest(key, self._known) or ';'} "
                f"allowed are {', '.join(self._known)}"
            )


def _parse_model(table: _TableReader) -> Model:
    model = Model(id=table.read("id", str), gated=table.read("gated", bool))
    table.reject_unknown_keys()
    return model


def _parse_shapes(table: _TableReader) -> StaticShapes:
    batch_size = table.read_int("batch_size", 1, 256)
    sequence_length = table.read_int("sequence_length", 2, 131072)
    max_context_length = None
    if table.has("max_context_length"):
        max_context_length = table.read_int("max_context_length", 1, sequence_length - 1)
    table.reject_unknown_keys()
    return StaticShapes.resolve(batch_size, sequence_length, max_context_length)


def _parse_compute(table: _TableReader) -> Compute:
    instances = catalog.instances()
    names = tuple(instances)
    backend, dtype = table.read_choice("backend", BACKENDS), table.read_choice("dtype", DTYPES)
    instance_type = table.read_choice("instance_type", names)
    instance_types = table.read("instance_types", list, "a list of instance types", [instance_type])
    for name in instance_types:
        if name not in names:
            raise table.error("instance_types", name, f"among {', '.join(names)}", suggest(str(name), names))
    if instance_type not in instance_types:
        raise table.error(
            "instance_types", instance_types, f"a list that holds instance_type {instance_type!r}"
        )
    tensor_parallel_size = table.read_int("tensor_parallel_size", 1, 64)
    data_parallel_size = table.read_int("data_parallel_size", 1, 24, Compute.data_parallel_size)
    for name in instance_types if backend == "neuron" else ():
        cores = instances[name].cores
        if tensor_parallel_size > cores:
            raise table.error(
                "tensor_parallel_size", tensor_parallel_size, f"at most {cores}, the cores of {name}"
            )
        if (engines := cores // tensor_parallel_size) < data_parallel_size:
            allowed = (
                f"at most {engines}: {name} has {cores} cores for engines of {tensor_parallel_size} each"
            )
            raise table.error("data_parallel_size", data_parallel_size, allowed)
    sampling = table.read_choice("sampling", SAMPLINGS) if table.has("sampling") else Compute.sampling
    if sampling == "device" and backend != "neuron":
        raise table.error("sampling", sampling, f"'host', as the backend {backend!r} has no device")
    table.reject_unknown_keys()
    return Compute(
        backend,
        instance_type,
        tuple(instance_types),
        tensor_parallel_size,
        dtype,
        data_parallel_size,
        sampling,
    )


def _parse_serving(table: _TableReader) -> Serving:
    queue_size = table.read_int("queue_size", 0, 10_000)
    deadline_s = table.read("deadline_s", float, "seconds", Serving.deadline_s)
    if not 0 < deadline_s < REAL_TIME_LIMIT_S:
        raise table.error("deadline_s", deadline_s, f"above 0 and under {REAL_TIME_LIMIT_S:g}")
    stream_deadline_s = None
    if table.has("stream_deadline_s"):
        stream_deadline_s = table.read("stream_deadline_s", float, "seconds")
        if not deadline_s <= stream_deadline_s < STREAM_LIMIT_S:
            allowed = f"at least deadline_s ({deadline_s:g}) and under {STREAM_LIMIT_S:g}"
            raise table.error("stream_deadline_s", stream_deadline_s, allowed)
    table.reject_unknown_keys()
    return Serving(queue_size, deadline_s, stream_deadline_s)


def _parse_compile(table: _TableReader) -> Compile:
    # The job itself compares the instance with botocore's list: this package does not import boto3.
    instance_type = table.read("instance_type", str, "an instance of SageMaker Processing")
    max_runtime_s = table.read_int("max_runtime_s", 600, 5 * 86_400, Compile.max_runtime_s)
    table.reject_unknown_keys()
    return Compile(instance_type, max_runtime_s)
