"""Dated facts about AWS, in TOML files that name their sources: instances, the image, quotas, support."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inf2kit import toml

_FOLDER = Path(__file__).parent

#: The cdk command line that deploys the stacks; package.json pins the same. npm's latest, 3.0.0, was
#: published by accident.
CDK_VERSION = "2.1148.1"
#: Numbers of NeuronCores to split a model over on inf2: a device has two, and an instance 2, 12 or 24.
TENSOR_PARALLEL_SIZES = (1, 2, 4, 8, 12, 24)


@dataclass(frozen=True)
class Instance:
    """A hosting instance type.

    Attributes:
        cores: Number of NeuronCores.
        host_memory_gib: Memory of the host; weights pass through it when they are loaded.
        device_memory_gib: Memory of all devices together; each core has an equal part of it.
        bandwidth_gb_s: Bandwidth of the device memory, all devices together.
    """

    cores: int
    host_memory_gib: int
    device_memory_gib: int
    bandwidth_gb_s: int


@dataclass(frozen=True)
class Image:
    """The container image of an endpoint.

    Attributes:
        repository: Its repository in AWS's registries of deep learning containers.
        tag: Its tag there.
        inference_ami_version: The machine image of the host.
        unpacked_gb: Its size on the volume.
        versions: Versions of ``optimum_neuron``, ``neuronx_cc``, ``neuron_sdk``, ``transformers``, ``torch``
            and ``python``.
        registries: The account of the registry, by region.
    """

    repository: str
    tag: str
    inference_ami_version: str
    unpacked_gb: int
    versions: Mapping[str, str]
    registries: Mapping[str, str]


@dataclass(frozen=True)
class SupportEnd:
    """The end of something that endpoints depend on.

    Attributes:
        what: What ends.
        date: The day.
        advice: What follows from it.
    """

    what: str
    date: dt.date
    advice: str


@functools.cache
def instances() -> Mapping[str, Instance]:
    """Return every instance type that a preset may name."""
    return MappingProxyType({name: Instance(**values) for name, values in _read("instances").items()})


def most_cores() -> int:
    """Return the number of NeuronCores of the largest instance."""
    return max(instance.cores for instance in instances().values())


@functools.cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """Return the ``config.json`` of each model that a preset uses, by the model's name on the hub."""
    return MappingProxyType(_read("models"))


@functools.cache
def image() -> Image:
    """Return the image that presets for Neuron are compiled in and deployed with."""
    return Image(**_read("image"))


@functools.cache
def quotas() -> Mapping[str, str]:
    """Return the code of the quota of each instance type for endpoints, in Service Quotas."""
    return MappingProxyType(_read("quotas"))


@functools.cache
def regions() -> Mapping[str, tuple[str, ...]]:
    """Return regions by what they offer: ``ec2_inf2`` and ``openai_route``."""
    return MappingProxyType({name: tuple(names) for name, names in _read("regions").items()})


@functools.cache
def support_ends() -> tuple[SupportEnd, ...]:
    """Return what ends or has ended, the earliest first."""
    return tuple(sorted((SupportEnd(**end) for end in _read("support")["end"]), key=lambda end: end.date))


def _read(name: str) -> dict[str, Any]:
    return toml.read(_FOLDER / f"{name}.toml")
