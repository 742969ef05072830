"""Run the functions of a file in ``calls``, by the Python of that client's environment; prints JSON.

``python -I run_calls.py calls/boto3.py`` prints ``{"whole": {"text": ...}, "stream": {"error": ...}}``: what
each public function returned, or the exception that it raised.
"""

import asyncio
import inspect
import json
import runpy
import sys
import types
from importlib.util import find_spec

# llama-index takes two templates of prompts from its package of llama.cpp, whose bindings are half an
# hour of C++. No call goes through them: an empty double stands in.
if find_spec("llama_cpp") is None:
    sys.modules["llama_cpp"] = types.SimpleNamespace(Llama=None)  # type: ignore[assignment]

names = runpy.run_path(sys.argv[1], run_name="calls")
results = {}
with asyncio.Runner() as runner:
    for name, value in names.items():
        if not inspect.isfunction(value) or value.__module__ != "calls" or name.startswith("_"):
            continue
        try:
            outcome = value()
            results[name] = {"text": runner.run(outcome) if inspect.iscoroutine(outcome) else outcome}
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(results))
