"""A CPU double; see neuron_cpu_double. Operations that are written for the compiler, by plain torch."""

import neuron_cpu_double
import torch


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_states, weight, eps, dim):
        variance = hidden_states.pow(2).mean(dim, keepdim=True)
        return hidden_states * torch.rsqrt(variance + eps) * weight.float()


def nki_jit():
    """Kernels are doubled by functions, which need no compiler."""
    return lambda kernel: kernel


def xla_hlo_call(function):
    """Call a function that describes an operation to the compiler with tensors that do it at once."""
    return lambda *tensors: function(*[_Described(each) for each in tensors])


class _Described:
    """A tensor as the compiler's description language sees it."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.sizes = tuple(tensor.shape)
        self.dtype = _Type(tensor.dtype)
        self.scribe = _Scribe()


class _Scribe:
    def __getattr__(self, name):
        return _Type(torch.int64 if name.startswith(("u", "s")) else torch.float32)


class _Type:
    def __init__(self, dtype, shape=None):
        self._dtype, self._shape = dtype, shape

    def __getitem__(self, shape):
        return _Type(self._dtype, tuple(shape))

    def Constant(self, constant_value):
        return torch.tensor(constant_value, dtype=self._dtype)

    def Rng(self, minimum, maximum, distribution):
        return torch.rand(self._shape) * (maximum - minimum) + minimum

    def DynamicUpdateSlice(self, operand, update, *starts):
        # An update that would reach over the end begins earlier, as XLA defines it.
        result, update = operand.tensor.clone(), update.tensor
        where = []
        for start, size, length in zip(starts, update.shape, result.shape, strict=True):
            begin = int(start.tensor if isinstance(start, _Described) else start)
            begin = max(0, min(begin, length - size))
            where.append(slice(begin, begin + size))
        result[tuple(where)] = update
        return result


__getattr__ = neuron_cpu_double.undoubled(__name__)
