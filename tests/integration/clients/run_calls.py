"""Run the functions of files in ``calls``, by the Python of their environment; prints JSON.

For each file ``{"boto3": {"whole": {"text": ...}, "stream": {"error": ...}}}`` has what its public functions
returned, or the exceptions that they raised. An import that failed is ``import``.
"""

import asyncio
import inspect
import json
import runpy
import sys
import types
from importlib.util import find_spec
from pathlib import Path

# llama-index takes two templates of prompts from its package of llama.cpp, whose bindings are half an
# hour of C++. No call goes through them: an empty double stands in.
if find_spec("llama_cpp") is None:
    sys.modules["llama_cpp"] = types.SimpleNamespace(Llama=None)  # type: ignore[assignment]


def run_calls(path: Path, runner: asyncio.Runner) -> dict[str, dict[str, str]]:
    results: dict[str, dict[str, str]] = {}
    try:
        names = runpy.run_path(str(path), run_name="calls")
    except Exception as error:
        return {"import": {"error": f"{type(error).__name__}: {error}"}}
    for name, value in names.items():
        if not inspect.isfunction(value) or value.__module__ != "calls" or name.startswith("_"):
            continue
        try:
            outcome = value()
            results[name] = {"text": runner.run(outcome) if inspect.iscoroutine(outcome) else outcome}
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    return results


with asyncio.Runner() as runner:
    print(json.dumps({Path(path).stem: run_calls(Path(path), runner) for path in sys.argv[1:]}))
