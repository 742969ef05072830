"""The contract's tests need optimum-neuron, which has environments of its own; test_contract runs them there."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("optimum") else ["contract/*"]
