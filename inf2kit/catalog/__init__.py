"""Dated facts about AWS, as TOML files that name their source: instances, the image, models, prices."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent

#: NeuronCores that a model is split over on inf2: a device has two, and an instance 2, 12 or 24.
TENSOR_PARALLEL_SIZES = (1, 2, 4, 8, 12, 24)


@dataclass(frozen=True)
class Instance:
    """What a hosting instance has.

    Attributes:
        cores: NeuronCores.
        host_memory_gib: Memory of the host, where weights pass through at load.
        device_memory_gib: Memory of all its devices; each core has its part of it.
        bandwidth_gb_s: Of that memory, all devices together.
    """

    cores: int
    host_memory_gib: int
    device_memory_gib: int
    bandwidth_gb_s: int


@dataclass(frozen=True)
class Image:
    """The container image of an endpoint.

    Attributes:
        repository: In AWS's registry of deep learning containers.
        tag: Of the image.
        inference_ami_version: The machine image of the host.
        unpacked_gb: Its size on the volume.
        versions: Of ``optimum_neuron``, ``neuronx_cc``, ``neuron_sdk``, ``transformers``, ``torch`` and
            ``python``.
        registries: The account of the registry, by region.
    """

    repository: str
    tag: str
    inference_ami_version: str
    unpacked_gb: int
    versions: Mapping[str, str]
    registries: Mapping[str, str]


@functools.cache
def instances() -> Mapping[str, Instance]:
    """Every instance type that a preset may name."""
    return MappingProxyType({name: Instance(**values) for name, values in _read("instances").items()})


@functools.cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """The presets' models: by their name on the hub, what their ``config.json`` says."""
    return MappingProxyType(_read("models"))


@functools.cache
def image() -> Image:
    """The image that presets for Neuron are compiled in and deployed with."""
    return Image(**_read("image"))


def read(file: Path) -> dict[str, Any]:
    """The values of a TOML file."""
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _read(name: str) -> dict[str, Any]:
    return read(_HERE / f"{name}.toml")
