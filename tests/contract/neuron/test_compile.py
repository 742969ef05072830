"""``inf2kit compile`` and its packages, with the container's optimum-neuron on the CPU double."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from inf2kit import paths
from inf2kit.package import open_store, split_uri, verify
from tests.helpers import packages
from tests.helpers.neuron import ROOT, find_python, run_module
from tests.helpers.servers import PATIENCE_S, wait_until

VERSION = "0.4.1"
PRESET = """
description = "one core"
status = "not run on a device"
[model]
id = "meta-llama/Llama-2-7b-hf"
gated = true
[shapes]
batch_size = 2
sequence_length = 48
[compute]
backend = "neuron"
instance_type = "ml.inf2.xlarge"
tensor_parallel_size = 1
dtype = "float32"
[serving]
queue_size = 4
"""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "own.toml"
    path.write_text(PRESET, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def package(preset: Path, output: Path, small_weights: Path) -> Path:
    """The package that the command has made, once for all tests."""
    ended = run_module(VERSION, "inf2kit.cli", "compile", str(preset), *_arguments(small_weights, output))
    assert ended.returncode == 0, ended.stdout
    assert "compiling: a prefill and a decode graph" in ended.stdout
    (manifest,) = output.glob("*/inf2kit.json")
    return manifest.parent


def _arguments(model: Path, output: Path) -> list[str]:
    return ["--model", str(model), "--output", str(output), "--max-context-length", "32"]


def test_a_model_becomes_a_package(package: Path, preset: Path, output: Path, small_weights: Path) -> None:
    place, digest = split_uri(str(package))
    manifest = verify(open_store(place), digest)
    assert manifest.target == "inf2"
    assert manifest.versions["optimum_neuron"] == VERSION
    assert manifest.preset["shapes"]["max_context_length"] == 32
    config = json.loads((package / "neuron_config.json").read_text(encoding="utf-8"))
    assert (config["max_context_length"], config["on_device_sampling"]) == (32, False)
    again = run_module(VERSION, "inf2kit.cli", "compile", str(preset), *_arguments(small_weights, output))
    assert "compiled before, in" in again.stdout
    assert "is there already, and whole" in again.stdout
    assert "make a preset of your own" in again.stdout


def test_the_package_generates_in_a_process_of_its_own(package: Path, small_weights: Path) -> None:
    """The blog's one-liner; the texts are those of the CPU backend on the same weights."""
    code = (
        "import inf2kit, sys; m = inf2kit.load(sys.argv[1]); "
        "print('TEXTS', [r.text for r in m.generate(['One two three', 'a'], max_new_tokens=6)], "
        "list(m.stream('One two three', max_new_tokens=6)))"
    )
    texts = []
    for command, folder in (
        ([find_python(VERSION), "-c", code], package),
        ([sys.executable, "-c", code], small_weights),
    ):
        ended = subprocess.run(
            [*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        texts += [line for line in ended.stdout.splitlines() if line.startswith("TEXTS")]
    assert texts[0] == texts[1]


def test_a_machine_without_a_device_or_with_other_versions_says_so(package: Path) -> None:
    code = "import inf2kit, sys; inf2kit.load(sys.argv[1])"
    for interpreter, variables, sentence in [
        (sys.executable, {}, "optimum-neuron cannot be imported"),
        (find_python("0.4.5"), {}, "compiled with optimum-neuron 0.4.1, but 0.4.5 is installed"),
        (
            find_python(VERSION),
            {"NEURON_CPU_DOUBLE_INSTANCE": ""},
            "run it on an instance with a Neuron device",
        ),
    ]:
        ended = subprocess.run(
            [interpreter, "-c", code, str(package)],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert sentence in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("version", "arguments", "sentence"),
    [
        (VERSION, [], "meta-llama/Llama-2-7b-hf is gated: accept its licence"),
        (
            "0.4.5",
            [],
            "optimum-neuron 0.4.5 is installed here, and the endpoint's image loads only what 0.4.1",
        ),
        (
            VERSION,
            ["--model", "nobody/nothing"],
            "has no whole copy of nobody/nothing; unset it, or give --model the folder of a copy",
        ),
    ],
)
def test_what_cannot_be_compiled_is_one_sentence(
    version: str, arguments: list[str], sentence: str, preset: Path, tmp_path: Path
) -> None:
    variables = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = ["inf2kit.cli", "compile", str(preset), "--output", str(tmp_path / "out"), *arguments]
    ended = run_module(version, *command, **variables)
    assert ended.returncode == 1
    assert sentence in ended.stdout
    assert "Traceback" not in ended.stdout


def test_a_compilation_that_fails_keeps_its_log_and_one_that_is_stopped_leaves_nothing(
    preset: Path, small_weights: Path, tmp_path: Path
) -> None:
    broken = packages.link_files(small_weights, tmp_path / "broken", "config.json")
    config = json.loads((small_weights / "config.json").read_text(encoding="utf-8"))
    packages.write_json(broken / "config.json", {**config, "hidden_act": "unknown"})
    ended = run_module(VERSION, "inf2kit.cli", "compile", str(preset), *_arguments(broken, tmp_path / "out"))
    assert ended.returncode == 1
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("Error: the compilation has failed: ")
    assert Path(last.rpartition(" ")[2]).read_text(encoding="utf-8")
    assert not list((tmp_path / "out").glob("*"))
    work = Path(os.environ["INF2KIT_HOME"]) / "compiled"
    assert not list(work.glob("*.making"))

    process = subprocess.Popen(
        [
            *[find_python(VERSION), "-m", "inf2kit.cli", "compile", str(preset), "--batch-size", "1"],
            *_arguments(small_weights, tmp_path / "out"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = wait_until(lambda: psutil.Process(process.pid).children(), "the compilation has begun")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    wait_until(lambda: not any(child.is_running() for child in children), "its process has ended")
    assert not list(work.glob("*.making"))


def test_a_compilation_has_nothing_on_its_standard_input_and_ends_with_the_command(
    preset: Path, small_weights: Path, tmp_path: Path
) -> None:
    """A library that asks whether to run a repository's own code gets no answer by accident."""
    command = [find_python(VERSION), "-m", "inf2kit.cli", "compile", str(preset)]
    with subprocess.Popen(
        [*command, *_arguments(small_weights, tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "INF2KIT_HOME": str(tmp_path / "home")},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:

        def find_compiler() -> psutil.Process | None:
            for child in psutil.Process(process.pid).children():
                if "inf2kit.compile.export" in child.cmdline():
                    return child
            return None

        compiler = wait_until(find_compiler, "the compiler is started")
        assert Path(f"/proc/{compiler.pid}/fd/0").resolve() == Path("/dev/null")
        process.kill()
        process.communicate(b"y\n", timeout=PATIENCE_S)
        wait_until(lambda: not compiler.is_running(), "the compiler has ended")


def test_a_device_that_is_held_is_waited_for(package: Path, tmp_path: Path) -> None:
    """The engine ends with a status of its own; the supervisor starts it until the cores are free."""
    run_dir = Path(tempfile.mkdtemp(prefix="inf2held-"))  # short, for a socket
    lock = tmp_path / "cores"
    holder = lock.open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)
    log = tmp_path / "log"
    path = os.pathsep.join([str(package / "code"), str(package / "code" / "vendor")])
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            [
                find_python(VERSION),
                "-m",
                "inf2kit.serving.supervision.supervisor",
                str(package),
                str(os.getpid()),
            ],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "INF2KIT_RUN_DIR": str(run_dir),
                # As in the container: compiled files in the package would make it a damaged one.
                "PYTHONPYCACHEPREFIX": str(paths.bytecode()),
                "NEURON_CPU_DOUBLE_LOCK": str(lock),
            },
            stdout=output,
            stderr=output,
        )
    try:
        state = run_dir / "supervisor.json"
        wait_until(
            lambda: state.exists() and json.loads(state.read_text(encoding="utf-8"))["held"] > 0,
            "the engine has found the cores held",
        )
        assert state_of(state) == "waiting for the device"
        holder.close()
        wait_until(lambda: state_of(state) == "ready", "the engine is ready once they are free")
    finally:
        supervisor.kill()
        supervisor.wait()
        holder.close()
        shutil.rmtree(run_dir)
        shutil.rmtree(paths.bytecode() / package.relative_to("/"), ignore_errors=True)


def state_of(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["state"])
