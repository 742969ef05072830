"""Settings of the engine: a broken manifest and wrong variables are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.settings import Settings


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "no inf2kit model package"),
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"format": 1}', "lacks 'preset'"),
    ],
)
def test_a_directory_without_a_whole_manifest_is_refused(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "inf2kit.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelDirectoryError, match=sentence):
        Settings.read(tmp_path, {})


NUMBERS = {
    "INF2KIT_QUEUE_SIZE": "a whole number of 0 to 100000",
    "INF2KIT_DEADLINE_SECONDS": "a number of 0.001 to 3600",
    "INF2KIT_PREFILLS_PER_STEP": "a whole number of 1 to 1024",
    "INF2KIT_STALL_SECONDS": "a number of 3 to 86400",
    "INF2KIT_TORCH_THREADS": "a whole number of 1 to 1024",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "a whole number of 1 to 1024",
    "INF2KIT_SIMULATED_STEP_SECONDS": "a number of 0 to 86400",
}
NO_NUMBERS = [
    "",
    " ",
    "soon",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "1_0",
    "0x10",
    " 5",
    "5 ",
    "\u0665",
    "9" * 400,
]


def test_a_number_outside_its_range_is_refused_by_name(model_dir: Path) -> None:
    for name, allowed in NUMBERS.items():
        for value in (*NO_NUMBERS, *(("1e3", "1.0", "1.5") if "whole" in allowed else ())):
            with pytest.raises(ModelDirectoryError) as refused:
                Settings.read(model_dir, {name: value})
            assert str(refused.value).startswith(f"{name} is {value[:40]!r}; it must be {allowed}")


def test_numbers_are_taken(model_dir: Path) -> None:
    environ = {
        "INF2KIT_QUEUE_SIZE": "0",
        "INF2KIT_DEADLINE_SECONDS": "1e3",
        "INF2KIT_STALL_SECONDS": "3.5",
        "INF2KIT_TORCH_THREADS": "2",
        "INF2KIT_SIMULATED_STEP_SECONDS": "1e-05",
    }
    settings = Settings.read(model_dir, environ)
    assert (settings.queue_size, settings.deadline_s, settings.stall_s) == (0, 1000.0, 3.5)
    assert (settings.torch_threads, settings.simulated) == (2, {"step_seconds": 1e-05})
    assert Settings.read(model_dir, {}).stall_s is None


def test_a_stream_may_take_longer_unless_the_container_has_a_deadline(model_dir: Path) -> None:
    path = model_dir / "inf2kit.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    short = Settings.read(model_dir, {})
    assert short.limit_s(stream=True) == short.limit_s(stream=False) == short.deadline_s
    manifest["preset"]["serving"]["stream_deadline_s"] = 470
    path.write_text(json.dumps(manifest), encoding="utf-8")
    longer = Settings.read(model_dir, {})
    assert (longer.limit_s(stream=True), longer.limit_s(stream=False)) == (470, short.deadline_s)
    assert Settings.read(model_dir, {"INF2KIT_DEADLINE_SECONDS": "3"}).limit_s(stream=True) == 3


def test_an_address_without_host_or_port_is_refused(model_dir: Path) -> None:
    for value in ("", "8080", ":8080", "host:", "host:port", "host:70000", "host:-1"):
        with pytest.raises(ModelDirectoryError, match=r"INF2KIT_GATEWAY_ADDRESS is .* must be HOST:PORT"):
            Settings.read(model_dir, {"INF2KIT_GATEWAY_ADDRESS": value})


@pytest.mark.parametrize(
    ("name", "value"), [("queue_size", -1), ("queue_size", "x"), ("deadline_s", 0), ("deadline_s", None)]
)
def test_a_wrong_number_of_the_manifest_is_the_manifests(model_dir: Path, name: str, value: object) -> None:
    path = model_dir / "inf2kit.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["preset"]["serving"][name] = value
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(
        ModelDirectoryError, match=r"inf2kit\.json has a wrong value .* make the package again"
    ):
        Settings.read(model_dir, {})
