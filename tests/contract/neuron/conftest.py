"""The contract's tests need optimum-neuron; test_contract runs them in environments that have it."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("optimum") else ["optimum/*"]
