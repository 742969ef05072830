"""What is downloaded, what is not, and how a download that was interrupted goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from inf2kit.package import Manifest
from tests.helpers.hub_double import Account, HubDouble, Repository, answer, cut, hold, spoil
from tests.helpers.servers import PATIENCE_S, free_port, wait_until
from tests.integration.hub.conftest import PYTHONS, Run

PRESET = "smollm2-135m-local"
MODEL = "org/small"
SHARD = "model-00002-of-00002.safetensors"
TOKEN = "hf_" + "mine" * 6
#: Bytes that the hub's client reads before it writes them.
CHUNK = 10 * 2**20
#: What repositories hold beside a model, each as large as the model.
OTHERS = (
    "original/consolidated.00.pth",
    "original/params.json",
    "pytorch_model-00001-of-00002.bin",
    "consolidated.safetensors",
    "onnx/model.onnx",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/optimizer.pt",
    "small.Q4_K_M.gguf",
)


@pytest.fixture
def repository(hub: HubDouble, llama: Mapping[str, bytes]) -> Repository:
    return hub.add(MODEL, {**llama, **dict.fromkeys(OTHERS, b"{}")})


@pytest.fixture
def large(hub: HubDouble, large_llama: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The model's files, of which those of weights come in several chunks."""
    hub.add(MODEL, dict(large_llama))
    return large_llama


def _arguments(tmp_path: Path, model: str = MODEL) -> list[str]:
    return ["compile", PRESET, "--model", model, "--output", str(tmp_path / "out")]


def _manifest(tmp_path: Path) -> Manifest:
    (path,) = (tmp_path / "out").glob("*/inf2kit.json")
    return Manifest.parse(path.read_bytes(), str(path))


@pytest.mark.parametrize("client", PYTHONS)
def test_a_model_is_packaged_at_one_commit_and_without_what_it_does_not_need(
    client: str, hub: HubDouble, repository: Repository, llama: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    ended = run(*_arguments(tmp_path), client=client)
    assert ended.returncode == 0, ended.stderr
    manifest = _manifest(tmp_path)
    assert manifest.revision == repository.refs["main"]
    names = {name for name in manifest.files if not name.startswith("code/")}
    assert names == set(llama)
    asked = {call.path.partition("/resolve/")[2].partition("/")[2] for call in hub.calls_of("HEAD", "")}
    assert asked == set(llama)


@pytest.mark.parametrize(
    ("model", "revision"),
    [
        (f"{MODEL}@v1", "v1"),
        (f"https://huggingface.co/{MODEL}/tree/v1", "v1"),
        (f"https://huggingface.co/{MODEL}/tree/refs%2Fpr%2F3", "refs/pr/3"),
    ],
)
def test_a_tag_is_recorded_as_its_commit(
    model: str, revision: str, repository: Repository, llama: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    tagged = repository.refs[revision] = repository.refs["main"]
    repository.commit({"config.json": llama["config.json"] + b"\n"})
    ended = run(*_arguments(tmp_path, model))
    assert ended.returncode == 0, ended.stderr
    assert _manifest(tmp_path).revision == tagged != repository.refs["main"]


@pytest.mark.parametrize("client", PYTHONS)
def test_a_model_that_was_renamed_is_found_by_its_old_name(
    client: str, hub: HubDouble, repository: Repository, run: Run, tmp_path: Path
) -> None:
    hub.renamed["org/old"] = MODEL
    ended = run(*_arguments(tmp_path, "org/old"), client=client)
    assert ended.returncode == 0, ended.stderr
    assert _manifest(tmp_path).revision == repository.refs["main"]


@pytest.mark.parametrize("client", PYTHONS)
def test_a_download_that_is_cut_goes_on_where_it_stopped(
    client: str, hub: HubDouble, large: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    hub.faults.append(cut("GET /cdn/", CHUNK + 1000, times=2))
    ended = run(*_arguments(tmp_path), client=client)
    assert ended.returncode == 0, ended.stderr
    assert "the connection has ended; trying again in 1 s" in ended.stderr
    first, second, third = [call for call in hub.calls if call.path.startswith("/cdn/")][:3]
    assert [call.range for call in (first, second, third)] == [
        None,
        f"bytes={CHUNK}-",
        f"bytes={2 * CHUNK}-",
    ]
    assert third.sent == len(large["model-00001-of-00002.safetensors"]) - 2 * CHUNK


@pytest.mark.parametrize("client", PYTHONS)
def test_ctrl_c_ends_a_download_at_once_and_the_next_command_fetches_only_the_rest(
    client: str,
    hub: HubDouble,
    large: Mapping[str, bytes],
    environment: dict[str, str],
    run: Run,
    tmp_path: Path,
) -> None:
    hub.faults.append(hold("GET /cdn/", after=CHUNK, times=1))
    process = subprocess.Popen(
        [PYTHONS[client], "-m", "inf2kit.cli", *_arguments(tmp_path)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    blobs = tmp_path / "hf/hub/models--org--small/blobs"

    def has_come() -> bool:
        return sum(path.stat().st_size for path in blobs.glob("*.incomplete")) == CHUNK

    wait_until(has_come, "a part has come")
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert output.splitlines()[-1] == "stopped; the same command continues from here"
    assert "Traceback" not in output
    hub.calls.clear()
    ended = run(*_arguments(tmp_path), client=client)
    assert ended.returncode == 0, ended.stderr
    rest = next(call for call in hub.calls if call.path.startswith("/cdn/"))
    assert rest.range == f"bytes={CHUNK}-"
    assert rest.sent == len(large["model-00001-of-00002.safetensors"]) - CHUNK


def test_a_download_that_stalls_goes_on(
    hub: HubDouble, large: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    hub.faults.append(hold("GET /cdn/", after=CHUNK + 1000, times=1))
    ended = run(*_arguments(tmp_path), HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert ended.returncode == 0, ended.stderr
    assert [call.range for call in hub.calls if call.path.startswith("/cdn/")][1] == f"bytes={CHUNK}-"


@pytest.mark.parametrize("client", PYTHONS)
def test_a_file_that_has_come_damaged_is_fetched_anew(
    client: str, hub: HubDouble, repository: Repository, run: Run, tmp_path: Path
) -> None:
    hub.faults.append(spoil("GET /cdn/"))
    ended = run(*_arguments(tmp_path), client=client)
    assert ended.returncode == 0, ended.stderr
    assert "has come damaged; fetching it anew" in ended.stderr


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(
    hub: HubDouble, repository: Repository, llama: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    """Such as the page of a proxy that an earlier try took for the file."""
    run(*_arguments(tmp_path))
    blobs = tmp_path / "hf/hub/models--org--small/blobs"
    snapshot = next((tmp_path / "hf/hub/models--org--small/snapshots").iterdir())
    blob = (snapshot / SHARD).resolve()
    (snapshot / SHARD).unlink()
    blob.rename(blobs / f"{blob.name}.incomplete")
    with (blobs / f"{blob.name}.incomplete").open("ab") as file:
        file.write(b"more")
    ended = run(*_arguments(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert (snapshot / SHARD).read_bytes() == llama[SHARD]


def test_without_the_hub_its_cache_will_do(
    hub: HubDouble, repository: Repository, run: Run, tmp_path: Path
) -> None:
    commit = repository.refs["main"]
    assert run(*_arguments(tmp_path)).returncode == 0
    hub.calls.clear()
    nowhere = f"http://127.0.0.1:{free_port()}"
    for model, variables, sentence in (
        (MODEL, {"HF_ENDPOINT": nowhere}, f"taking the copy of commit {commit} in"),
        (MODEL, {"HF_HUB_OFFLINE": "1"}, f"taking the copy of commit {commit} in"),
        (f"{MODEL}@{commit}", {"HF_ENDPOINT": nowhere}, ""),
    ):
        ended = run(*_arguments(tmp_path, model), **variables)
        assert ended.returncode == 0, ended.stderr
        assert sentence in ended.stderr
    assert _manifest(tmp_path).revision == commit
    assert not hub.calls


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0"}])
def test_a_part_of_a_model_in_the_cache_is_not_taken_for_the_whole(
    variables: Mapping[str, str], hub: HubDouble, repository: Repository, run: Run, tmp_path: Path
) -> None:
    """The hub's client itself returns the folder without a word."""
    hub.faults.append(answer(f"resolve/.*{SHARD}", 403))
    assert run(*_arguments(tmp_path)).returncode == 1
    hub.faults.append(answer("/api/", 500, headers={"Retry-After": "0"}))
    ended = run(*_arguments(tmp_path), **variables)
    assert ended.returncode == 1
    assert "has no whole copy of org/small" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*/inf2kit.json"))


def test_too_little_room_is_told_before_the_download(
    hub: HubDouble, repository: Repository, run: Run, tmp_path: Path
) -> None:
    repository.sizes[SHARD] = 10**18
    ended = run(*_arguments(tmp_path))
    assert ended.returncode == 1
    assert "GB free and downloading org/small writes 1000000000.0 GB there; make room" in ended.stderr
    assert not [call for call in hub.calls if call.path.startswith("/cdn/")]


def test_the_token_is_sent_to_the_hub_and_nowhere_else(
    hub: HubDouble, llama: Mapping[str, bytes], environment: dict[str, str], tmp_path: Path
) -> None:
    """Not to the host of large files, and into no file, output or list of processes."""
    hub.accounts[TOKEN] = Account("me")
    hub.add("org/gated", dict(llama), gated=True, readers={"me"})
    stopped = hold("GET /cdn/", after=1000, times=1)
    hub.faults.append(stopped)
    process = subprocess.Popen(
        [sys.executable, "-m", "inf2kit.cli", *_arguments(tmp_path, "org/gated")],
        # As from a file that ends in a newline.
        env={**environment, "HF_TOKEN": f"{TOKEN}\n"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: any(call.path.startswith("/cdn/") for call in hub.calls), "it downloads")
    command_line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert stopped.hold
    stopped.hold.set()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert TOKEN.encode() not in command_line
    assert TOKEN not in output
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    senders = {call.path for call in hub.calls if "authorization" in call.headers}
    assert senders
    assert not [path for path in senders if path.startswith("/cdn/")]


def test_the_dry_run_asks_the_hub_and_keeps_nothing(
    hub: HubDouble, repository: Repository, llama: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    repository.commit({OTHERS[0]: bytes(2_000_000)})
    arguments = ["compile", "tinyllama-1.1b-starter", "--dry-run", "--output", tmp_path / "out"]
    ended = run(*arguments, "--model", MODEL, "--sequence-length", "64")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == f"compile {MODEL}, revision {repository.refs['main']}"
    assert "rows of 64 tokens" in lines[1]
    assert "  for ml.inf2.xlarge: it fits" in lines
    size = f"{sum(map(len, llama.values())) / 1e6:.1f} MB"
    assert f"download {size} of {size}, {len(llama)} files, to {tmp_path}/hf/hub" in lines
    assert "  left out, the same model in its maker's own layout: original/ (2.0 MB)" in lines
    assert not (tmp_path / "hf/hub/models--org--small").exists()
    assert not (tmp_path / "home").exists()


def test_the_dry_run_refuses_what_the_command_would_refuse(
    hub: HubDouble, repository: Repository, llama: Mapping[str, bytes], run: Run, tmp_path: Path
) -> None:
    arguments = ["compile", "tinyllama-1.1b-starter", "--dry-run", "--output", tmp_path / "out", "--model"]
    config = json.loads(llama["config.json"])
    hub.add("org/gpt", {**llama, "config.json": json.dumps({**config, "model_type": "gpt2"}).encode()})
    hub.add("org/graphs", {**llama, "neuron_config.json": b"{}", "model.pt": b""})
    for model, sentence in (
        ("org/gpt", "model_type is 'gpt2'"),
        ("org/nothing", "has no model org/nothing"),
        (f"{MODEL}@v7", "has no revision 'v7'"),
        ("org/graphs", "org/graphs is compiled for Neuron already; package its folder with inf2kit package"),
    ):
        ended = run(*arguments, model)
        assert ended.returncode == 1
        assert sentence in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_dry_run_of_a_preset_works_without_the_hub_and_says_what_it_does_not_know(
    run: Run, tmp_path: Path
) -> None:
    arguments = ["compile", "llama2-7b-budget", "--dry-run", "--output", tmp_path / "out"]
    ended = run(*arguments, HF_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert ended.returncode == 0, ended.stderr
    assert "compile meta-llama/Llama-2-7b-hf" in ended.stdout
    assert "  for ml.inf2.8xlarge: it fits" in ended.stdout
    assert "what would be downloaded is not known" in ended.stderr
