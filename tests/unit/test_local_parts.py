"""Parts of the rehearsal that need no endpoint: frames, the model directory, imports, the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.eventstream import EventStreamBuffer
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import inf2kit
from inf2kit.cli import main
from inf2kit.compile.job import bundle
from inf2kit.errors import ModelDirectoryError
from inf2kit.package import gather
from inf2kit.rehearsal.runtime import event_stream
from inf2kit.serving.engine.settings import Settings
from inf2kit.verify.questions import questions
from tests.helpers import packages

HEAVY = {"torch", "transformers", "numpy", "psutil", "httpx", "uvicorn", "sagemaker"}


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_botocore_reads_our_frames(parts: list[bytes]) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(event_stream.encode_payload_part(part) for part in parts))
    events = list(buffer)
    assert [event.payload for event in events] == parts
    assert all(event.headers[":event-type"] == "PayloadPart" for event in events)
    buffer.add_data(event_stream.encode_model_stream_error("broke off", "X"))
    assert next(buffer).headers[":exception-type"] == "ModelStreamError"


def test_importing_inf2kit_is_light() -> None:
    code = "import sys, inf2kit; inf2kit.Endpoint; inf2kit.load_preset; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & {module.partition(".")[0] for module in modules.split()}
    assert "boto3" not in modules.split(), "boto3 is imported when an endpoint is made"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    weights = packages.write_weights(tmp_path / "weights")
    gather(inf2kit.load_preset("smollm2-135m-local"), weights).materialise(tmp_path / "model")
    return tmp_path / "model"


def test_the_model_directory_holds_what_the_container_needs(model_dir: Path) -> None:
    code = model_dir / "code"
    for name in ("inference.py", "inf2kit/serving/engine/gateway.py", "vendor/uvicorn/__init__.py"):
        assert (code / name).is_file()
    assert not (code / "requirements.txt").exists(), "pip would need a network at every start"
    assert not list(code.rglob("*.so")), "pure Python only"
    assert not list(code.rglob("__pycache__"))
    assert Settings.read(model_dir, {}).shapes.batch_size == 8


def test_the_container_code_imports_with_nothing_but_the_package(model_dir: Path) -> None:
    """The gateway's imports come from code/ alone, but for psutil, which the model server brings."""
    code = model_dir / "code"
    script = (
        f"import sys; sys.path[:0] = [{str(code)!r}, {str(code / 'vendor')!r}];"
        "import httpx, uvicorn; from inf2kit.serving import wire; from inf2kit.serving.engine import gateway;"
        "modules = (gateway, httpx, uvicorn, wire);"
        "assert all(module.__file__.startswith(sys.path[0]) for module in modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_container_code_compiles_and_imports_on_python_310(model_dir: Path) -> None:
    """Where the container's Python is at hand; the type checker and the linter look at it everywhere."""
    python = _python_310()
    if python is None:
        pytest.skip("no Python 3.10, the container's version, on this machine")
    code = model_dir / "code"
    subprocess.run([python, "-m", "compileall", "-q", str(code)], check=True)
    script = (
        "import inf2kit.serving.wire, httpx, uvicorn;"
        "from inf2kit.serving.engine import protocol, detokenizer, settings"
    )
    subprocess.run([python, "-c", script], env={"PYTHONPATH": f"{code}:{code / 'vendor'}"}, check=True)


def test_the_code_of_a_compilation_job_imports_on_python_310(tmp_path: Path) -> None:
    """What its container gets, but for what the image has: boto3, the hub's client, optimum-neuron."""
    python = _python_310()
    if python is None:
        pytest.skip("no Python 3.10, the container's version, on this machine")
    for name, path in bundle().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / name)
    script = (
        "import inf2kit.compile.job_entrypoint, inf2kit.compile.export;"
        "from inf2kit.catalog import image; image()"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'vendor'}"}
    subprocess.run([python, "-c", script], env=environment, check=True)


def test_the_readme_says_which_questions_are_open() -> None:
    """Those that no report of a device in docs/device-reports has answered."""
    docs = Path(inf2kit.__file__).parents[1]
    reports = [
        json.loads(path.read_text(encoding="utf-8")) for path in docs.glob("docs/device-reports/*.json")
    ]
    still = {name for name in questions() if all(name in each["open_questions"] for each in reports)}
    readme = (docs / "README.md").read_text(encoding="utf-8")
    listed = readme[readme.index("answers what is still open") :].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", listed)) - {"inf2kit", "--questions"} == still


def _python_310() -> str | None:
    installed = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for candidate in filter(None, [shutil.which("python3.10"), *map(str, installed)]):
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no inf2kit model package"),
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"format": 1}', "lacks 'preset'"),
    ],
)
def test_a_directory_without_a_whole_manifest_is_refused(
    tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "inf2kit.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelDirectoryError, match=said):
        Settings.read(tmp_path, {})


def test_a_wrong_setting_is_refused(model_dir: Path) -> None:
    with pytest.raises(ModelDirectoryError, match="could not convert string to float"):
        Settings.read(model_dir, {"INF2KIT_DEADLINE_SECONDS": "soon"})
    with pytest.raises(ModelDirectoryError, match="INF2KIT_STALL_SECONDS is 1 and must be at least 3"):
        Settings.read(model_dir, {"INF2KIT_STALL_SECONDS": "1"})


def test_presets_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(main, ["presets"]).output
    assert [line.split()[0] for line in listed.splitlines()] == ["PRESET", *inf2kit.preset_names()]
    assert "not run on a device" in listed
    shown = CliRunner().invoke(
        main, ["presets", "show", "llama2-7b-budget", "--instance-type", "ml.inf2.xlarge"]
    )
    assert 'instance_type = "ml.inf2.xlarge"' in shown.output


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "{path}"])
def test_down_takes_names_and_never_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").touch()
    result = CliRunner().invoke(main, ["local", "down", name.format(path=tmp_path)])
    assert (result.exit_code, "cannot be an endpoint's name" in result.output) == (1, True)
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["presets", "show", "lama2-7b-latency"], "did you mean 'llama2-7b-latency'"),
        (["local", "up", "nothing.toml"], "cannot be read"),
        (["local", "up", "smollm2-135m-local", "--name", "a_b"], "cannot be an endpoint's name"),
        (["local", "logs", "nobody"], "there is no local endpoint 'nobody'"),
        (["generate", "nobody", "x", "--endpoint-url", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)
def test_every_mistake_ends_with_a_sentence(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
    assert json.dumps(result.exception, default=str)
