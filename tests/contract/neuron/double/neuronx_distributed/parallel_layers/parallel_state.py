"""A CPU double; see neuron_cpu_double. Process groups are torch's own fake ones: they have a size and talk to
nobody."""

import contextlib

import neuron_cpu_double
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextlib.contextmanager
def ranks(count):
    """As if this process were the first of so many."""
    if not dist.is_initialized() or dist.get_world_size() != count:
        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)
    yield
    if count != 1:  # what runs asks for the size of its group at every step
        dist.destroy_process_group()


def model_parallel_is_initialized():
    return dist.is_initialized()


def get_tensor_model_parallel_group():
    return dist.group.WORLD


def get_tensor_model_parallel_size():
    return dist.get_world_size()


def initialize_model_parallel(**_):
    raise NotImplementedError("the CPU double's builder makes its own groups")


__getattr__ = neuron_cpu_double.undoubled(__name__)
