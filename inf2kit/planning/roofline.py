"""What an engine should take by its sizes and the device's, where nobody has measured it: to about 30 %.

Both formulas are bounds of the hardware by the share of it that published engines of Llama reach: 7B, 8B and
70B over 2, 8 and 24 cores, as in ``catalog/published/engines.csv``.
"""

from __future__ import annotations

from inf2kit import catalog
from inf2kit.checkpoint import Architecture
from inf2kit.fit import estimate_memory
from inf2kit.planning.published import STALL_SHARE
from inf2kit.planning.times import ServiceTimes
from inf2kit.presets import Preset

#: The share of a device's bandwidth that reads weights in a step, and of its arithmetic in a prefill.
_BANDWIDTH_SHARE, _ARITHMETIC_SHARE = 0.475, 0.3
#: Operations per second of a NeuronCore-v2 in 16 bits: the data sheet has 190 TFLOPS for a device of two.
_CORE_FLOPS = 95e12
#: From so many cores on, collectives between devices take seconds of their own for each layer: of a step, and
#: of a prefill.
_MANY_CORES, _LAYER_STEP_S, _LAYER_PREFILL_S = 12, 0.000_125, 0.004
#: How many times as long a row's cache takes as its bytes at full bandwidth.
_CACHE_FACTOR = 3.0
#: What each row adds to a step where the host chooses tokens, for each entry of the vocabulary: two loaded
#: runs with 128,256 entries took 0.77 and 0.96 ms (``engines.csv``, August 2026). Older ones took 1.7 ms.
_HOST_ROW_S = 0.000_87 / 128_256


def host_row_s(preset: Preset) -> float:
    """Estimate the seconds that each row adds to a step where the host chooses tokens.

    Raises:
        CheckpointError: the model's sizes are not known on this machine.
    """
    return _HOST_ROW_S * Architecture.find(preset.model.id).vocab_size


def estimate(preset: Preset) -> ServiceTimes:
    """Estimate the times of a preset's engine whose device chooses the tokens.

    Raises:
        CheckpointError: the model's sizes are not known on this machine.
    """
    architecture = Architecture.find(preset.model.id)
    cores = preset.compute.tensor_parallel_size
    instance = catalog.instances()[preset.compute.instance_type]
    memory = estimate_memory(architecture, preset.shapes, cores, preset.compute.dtype)
    bandwidth = instance.bandwidth_gb_s * 1e9 / instance.cores
    step_s = memory.weights / bandwidth / _BANDWIDTH_SHARE + _CACHE_FACTOR * memory.kv_cache / bandwidth
    context = preset.shapes.prefill_length
    prefill_s = 2 * architecture.parameters * context / (_ARITHMETIC_SHARE * _CORE_FLOPS * cores)
    if cores >= _MANY_CORES:
        step_s += _LAYER_STEP_S * architecture.num_hidden_layers
        prefill_s += _LAYER_PREFILL_S * architecture.num_hidden_layers
    return ServiceTimes((context,), (prefill_s,), step_s, 0.0, STALL_SHARE * prefill_s)
