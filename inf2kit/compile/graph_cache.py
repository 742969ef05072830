"""The hub's cache of compiled graphs: does it hold what is about to be compiled?

It runs in the process that compiles, beside optimum-neuron, which asks the same cache for each graph.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from inf2kit.compile.spec import CompileSpec

_SLOW = "up to an hour and more for a large model"
#: The values of a compilation that the cache lists, by optimum-neuron's names.
_KEYS = ("batch_size", "sequence_length", "max_context_length", "tp_degree", "on_device_sampling", "target")
#: optimum-neuron's calls have no limit of their own.
_TIMEOUT_S = 120.0


def describe(
    spec: CompileSpec, settings: Any, timeout_s: float = _TIMEOUT_S, *, is_corrected: bool = False
) -> str:
    """Say how long the compilation takes, by what the hub's cache holds. It never fails.

    If the cache cannot be asked, optimum-neuron passes it over too: it would wait for it without a limit.

    Args:
        spec: What to compile.
        settings: optimum-neuron's configuration of it.
        timeout_s: Seconds that the cache has for its answer.
        is_corrected: Whether ``corrections`` change the graphs, so that the cache cannot have them.
    """
    if Path(spec.model).exists():
        return f"the hub's cache does not list models in folders; compiling may take {_SLOW}"
    result: list[list[dict[str, Any]] | Exception] = []

    def ask() -> None:
        from optimum.neuron.cache.hub_cache import get_hub_cached_entries

        try:
            result.append(get_hub_cached_entries(spec.model, task="text-generation"))
        except Exception as error:  # no network, no token, no such repository, another layout of it
            result.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    entries = result[0] if result else TimeoutError(f"no answer within {timeout_s:.0f} s")
    if isinstance(entries, Exception):
        _work_offline()
        reason = str(entries).partition("\n")[0] or type(entries).__name__
        return f"the hub's cache cannot be asked ({reason}); compiling may take {_SLOW}"
    values = {key: getattr(settings, key) for key in _KEYS} | {"torch_dtype": spec.dtype}
    if any(all(entry.get(key) == value for key, value in values.items()) for entry in entries):
        if is_corrected:
            return f"the hub's cache has these graphs, but without a correction of the logits: {_SLOW}"
        return "the hub's cache has these graphs: some minutes"
    return f"the hub's cache has {len(entries)} compilations of this model, none with these shapes: {_SLOW}"


def _work_offline() -> None:
    """Let the hub's client, in this process, refuse calls at once."""
    from huggingface_hub import constants
    from huggingface_hub.utils._http import reset_sessions

    constants.HF_HUB_OFFLINE = True
    reset_sessions()
