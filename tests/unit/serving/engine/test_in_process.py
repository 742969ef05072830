"""The engine in the caller's process: beside a user's own package ``engine``, and when it ends."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import inf2kit
from inf2kit.errors import RequestError
from inf2kit.package.contents import collect
from inf2kit.serving.engine.in_process import InProcessEngine
from inf2kit.serving.settings import Settings
from tests.helpers.servers import PATIENCE_S

LOAD = """
import sys, inf2kit, engine
assert engine.OWN
model = inf2kit.load(sys.argv[1])
result = model.generate("x", max_new_tokens=3, seed=1)
print(result.generated_tokens, "".join(model.stream("x", max_new_tokens=3, seed=1)) == result.text)
"""
SERVE = """
import sys, engine, inference, inf2kit.serving.gateway.gateway, inf2kit.serving.engine.server
assert engine.OWN
error = inference.predict_fn(inference.input_fn(b"{", "application/json"), None)
print(error.status, inference.output_fn(error, "application/json").decode()[:30])
"""


@pytest.fixture(scope="module")
def package(small_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for the simulated backend, whose handler's folder has a package ``engine``."""
    preset = inf2kit.load_preset("smollm2-135m-local")
    preset = dataclasses.replace(preset, compute=dataclasses.replace(preset.compute, backend="simulated"))
    path = tmp_path_factory.mktemp("simulated") / "package"
    collect(preset, small_weights).materialise(path)
    write_engine(path / "code")
    return path


def write_engine(folder: Path) -> None:
    """Write a user's own package."""
    (folder / "engine").mkdir()
    (folder / "engine" / "__init__.py").write_text("OWN = True\n", encoding="utf-8")


def run(script: str, *arguments: str, path: str) -> str:
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_load_does_not_meet_a_users_own_engine(package: Path, tmp_path: Path) -> None:
    write_engine(tmp_path)
    assert run(LOAD, str(package), path=str(tmp_path)) == "3 True\n"


def test_the_container_does_not_meet_a_users_own_engine(package: Path) -> None:
    code = package / "code"
    output = run(SERVE, path=os.pathsep.join(map(str, (code, code / "vendor"))))
    assert output == '400 {"error": "the body is not JSO\n'


def test_several_answers_have_seeds_of_their_own(package: Path) -> None:
    model = inf2kit.load(package)
    options = {"max_new_tokens": 8, "do_sample": True, "ignore_eos": True}
    answers = model.generate("x", n=3, seed=2**40, **options)
    assert isinstance(answers, list)
    assert [answer.seed for answer in answers] == [2**40, 2**40 + 1, 2**40 + 2]
    alone = [model.generate("x", seed=answer.seed, **options) for answer in answers]
    assert [answer.text for answer in answers] == [answer.text for answer in alone]
    both = model.generate(["x", "y"], n=2, seed=7, **options)
    assert [answer.seed for answer in both] == [7, 8, 7, 8]
    unseeded = model.generate("x", n=2, **options)
    assert isinstance(unseeded, list)
    seeds = [answer.seed for answer in unseeded]
    assert seeds[0] is not None
    assert seeds[1] == seeds[0] + 1


def test_the_new_options_reach_the_sampler(package: Path) -> None:
    model = inf2kit.load(package)
    biased = model.generate("x", max_new_tokens=4, logit_bias={"300": 100}, ignore_eos=True)
    plain = model.generate("x", max_new_tokens=4, ignore_eos=True)
    assert biased.text != plain.text
    stopped = model.generate("x", max_new_tokens=4, logit_bias={"300": 100}, stop_token_ids=[300])
    assert (stopped.finish_reason, stopped.generated_tokens) == ("stop_sequence", 1)
    late = model.generate(
        "x", max_new_tokens=9, logit_bias={"300": 100}, stop_token_ids=[300], min_new_tokens=3
    )
    assert (late.finish_reason, late.generated_tokens) == ("stop_sequence", 4)
    with pytest.raises(RequestError, match="'logit_bias' has the token id 999999"):
        model.generate("x", logit_bias={"999999": 1})
    with pytest.raises(RequestError, match="'stop_token_ids' has the token id 49152"):
        model.generate("x", stop_token_ids=[49152])


def engine_of(package: Path, tmp_path: Path, **simulated: str) -> InProcessEngine:
    variables = {f"INF2KIT_SIMULATED_{name.upper()}": value for name, value in simulated.items()}
    return InProcessEngine(Settings.read(package, {"INF2KIT_RUN_DIR": str(tmp_path / "run"), **variables}))


def consume(engine: InProcessEngine, started: threading.Event) -> RequestError | None:
    """Take all events of a long call; its error, or None if it ended."""
    body = {"inputs": "x", "parameters": {"max_new_tokens": 400, "details": True, "ignore_eos": True}}
    try:
        for _ in engine.call({**body, "stream": True}):
            started.set()
    except RequestError as error:
        return error
    finally:
        started.set()
    return None


@pytest.mark.parametrize("ending", ["failure", "close"])
def test_nobody_waits_for_an_engine_that_has_ended(package: Path, tmp_path: Path, ending: str) -> None:
    engine = engine_of(package, tmp_path, **({"fail_after": "60"} if ending == "failure" else {}))
    started = [threading.Event() for _ in range(3)]
    with ThreadPoolExecutor(len(started)) as pool:
        calls = [pool.submit(consume, engine, event) for event in started]
        for event in started:
            assert event.wait(PATIENCE_S)
        if ending == "close":
            engine.close()
        errors = [call.result(PATIENCE_S) for call in calls]
    late = consume(engine, threading.Event())
    sentence = "the simulated device failed" if ending == "failure" else "the model was closed"
    for error in (*errors, late):
        assert error is not None
        assert sentence in str(error)
    engine.close()
    engine.close()
    closed = consume(engine, threading.Event())
    assert closed is not None
    assert "the model was closed" in str(closed)
