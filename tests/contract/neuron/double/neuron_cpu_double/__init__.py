"""A double of a Neuron device and its compiler, on the CPU. Nothing here is the real thing.

It stands in for the packages below optimum-neuron (``neuronx_distributed``, ``torch_neuronx``, ``torch_xla``,
``libneuronxla``, ``neuronxcc``), which exist for machines with a device or a compiler only. Everything above
them is optimum-neuron's own code: configuration, model, padding and sharding of weights, cache of keys and
values, wrappers, sampling on the device. "Compiling" keeps the module; "the device" runs it with plain torch,
each rank in a thread of its own, and like a compiled graph takes exactly the shapes and types it was compiled
for.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Every version of the doubled packages carries it, so that no artefact of theirs passes for a real one.
MARK = "cpudouble"

#: Names an instance of which this machine then seems to be one; empty, there is a compiler and no device.
INSTANCE = "NEURON_CPU_DOUBLE_INSTANCE"


def version(of: str) -> str:
    """A package's version, marked."""
    return f"{of}+{MARK}"


def pretend_device() -> None:
    """Make optimum-neuron find devices, if the environment asks for them.

    It counts the files in /dev that have the driver's major number. Number 1 is that of /dev/null, /dev/zero
    and others, so the counting, and what the environment makes of it, stays its own.
    """
    instance = os.environ.get(INSTANCE)
    if not instance:
        return
    from optimum.neuron.utils import instance as instances
    from optimum.neuron.utils import system

    for module in (system, instances):
        module.get_neuron_major = lambda: 1
        module.get_instance_name = lambda: instance
    with contextlib.suppress(ImportError):  # since 0.4.2 it logs what the driver says of the memory
        from optimum.neuron.utils import neuron_device_memory

        neuron_device_memory.SYSFS_NEURON_BASE = Path(tempfile.mkdtemp(prefix="neuron_cpu_double-"))


def undoubled(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for names without a double: they can be imported, not used."""

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"neuron_cpu_double has no {module}.{name}")

        return type(name, (), {"__init__": refuse})

    return find


class _Modules:
    """Finds modules of the doubled packages that have no file: optimum-neuron imports those of all its
    models."""

    _PACKAGES = ("neuronx_distributed", "torch_neuronx", "torch_xla", "neuronxcc", "libneuronxla")

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self._PACKAGES:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = undoubled(spec.name)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.append(_Modules())
