"""Pushing a compiled model: what is refused before hours of work, and what arrives."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import inf2kit
from tests.helpers import packages
from tests.helpers.hub_double import Account, HubDouble, answer
from tests.helpers.servers import PATIENCE_S
from tests.integration.hub.conftest import PYTHONS, Run

PRESET = "tinyllama-1.1b-starter"
TOKEN = "hf_" + "mine" * 6
NO_COMPILER = "neuronx-cc and optimum-neuron cannot be found"


@pytest.fixture(autouse=True)
def _accounts(hub: HubDouble, llama: Mapping[str, bytes]) -> None:
    hub.add("TinyLlama/TinyLlama-1.1B-Chat-v1.0", dict(llama))
    hub.accounts[TOKEN] = Account("me", organizations=("team",))
    hub.accounts[TOKEN + "reads"] = Account("me", role="read")
    hub.add("me/public", {"neuron_config.json": b"{}"})
    hub.add("me/compiled", {"neuron_config.json": b"{}", ".gitattributes": b""}, private=True)
    hub.add("me/weights", {"config.json": b"{}", "model.safetensors": b""}, private=True)


@pytest.mark.parametrize(
    ("repository", "options", "token", "sentence"),
    [
        ("me/new", [], "", "pushing to me/new needs a token that may write: set HF_TOKEN"),
        ("me/new", [], "hf_wrong", "refuses your token, HF_TOKEN (Invalid credentials"),
        ("me/new", [], TOKEN + "reads", "your token (HF_TOKEN) may only read; make one that may write at"),
        (
            "you/new",
            [],
            TOKEN,
            "belongs to you, and your token (HF_TOKEN) is that of me; push to one of me/...",
        ),
        ("new", [], TOKEN, "--push-to-hub is 'new'; give the repository's name, OWNER/NAME"),
        ("me/new model", [], TOKEN, "neither a folder on this machine nor the name of a model"),
        ("me/public", [], TOKEN, "everybody may read me/public; add --public if that is meant, or make it"),
        (
            "me/weights",
            [],
            TOKEN,
            "holds no compiled model but config.json, model.safetensors; push to another",
        ),
        ("me/weights", ["--public"], TOKEN, "holds no compiled model but config.json"),
        ("me/new", [], TOKEN, NO_COMPILER),
        ("team/new", ["--public"], TOKEN, NO_COMPILER),
        ("me/public", ["--public"], TOKEN, NO_COMPILER),
        ("me/compiled", [], TOKEN, NO_COMPILER),
    ],
)
def test_a_push_that_would_be_refused_is_so_before_the_compilation(
    repository: str, options: list[str], token: str, sentence: str, hub: HubDouble, run: Run, tmp_path: Path
) -> None:
    before = set(hub.repositories)
    ended = run(
        *["compile", PRESET, "--output", tmp_path / "out", "--push-to-hub", repository, *options],
        HF_TOKEN=token,
    )
    assert ended.returncode == 1
    assert sentence in ended.stderr.splitlines()[-1]
    assert set(hub.repositories) == before, "it was only asked"


def test_the_dry_run_says_what_a_push_would_be_refused_for(run: Run, tmp_path: Path) -> None:
    arguments = ["compile", PRESET, "--output", tmp_path / "out", "--dry-run", "--push-to-hub"]
    assert "may only read" in run(*arguments, "me/new", HF_TOKEN=TOKEN + "reads").stderr
    assert "everybody may read me/public" in run(*arguments, "me/public", HF_TOKEN=TOKEN).stderr


def _push(
    folder: Path,
    repository: str,
    environment: Mapping[str, str],
    *,
    client: str = "0.36",
    public: bool = False,
) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from pathlib import Path; from inf2kit.compile import hub; "
        f"print(hub.push(Path(sys.argv[1]), sys.argv[2], public={public}))"
    )
    return subprocess.run(
        [PYTHONS[client], "-c", code, str(folder), repository],
        env={**environment, "HF_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    folder = packages.write_artifacts(tmp_path / "compiled", inf2kit.load_preset(PRESET))
    (folder / ".revision").write_text("abc", encoding="utf-8")
    return folder


@pytest.mark.parametrize("client", PYTHONS)
@pytest.mark.parametrize("public", [False, True])
def test_graphs_and_configuration_arrive_and_weights_do_not(
    client: str, public: bool, hub: HubDouble, compiled: Path, environment: dict[str, str]
) -> None:
    ended = _push(compiled, "team/new", environment, client=client, public=public)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == f"{hub.url}/team/new"
    repository = hub.repositories["team/new"]
    assert repository.private is not public
    files = repository.commits[repository.refs["main"]]
    assert set(files) == {
        ".gitattributes",
        "config.json",
        "model.pt",
        "neuron_config.json",
        "tokenizer.json",
    }
    assert files["model.pt"] == b"graph"
    again = _push(compiled, "team/new", environment, client=client, public=public)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("call", "status", "sentence"),
    [
        (
            "POST /api/models/.*/preupload",
            403,
            "your token (HF_TOKEN) may not write to me/compiled; take one",
        ),
        ("POST /api/models/.*/commit", 500, "has failed (500)"),
        ("POST /me/compiled.git/info/lfs", 401, "your token (HF_TOKEN) may not write to me/compiled"),
    ],
)
def test_a_push_that_fails_says_what_is_kept(
    call: str, status: int, sentence: str, hub: HubDouble, compiled: Path, environment: dict[str, str]
) -> None:
    hub.faults.append(answer(call, status))
    ended = _push(compiled, "me/compiled", environment)
    last = ended.stderr.splitlines()[-1]
    assert sentence in last
    assert "nothing was pushed, and the compiled model is kept for the same command" in last


def test_a_public_repository_that_somebody_made_meanwhile_gets_nothing(
    hub: HubDouble, compiled: Path, environment: dict[str, str]
) -> None:
    commits = dict(hub.repositories["me/public"].commits)
    ended = _push(compiled, "me/public", environment)
    assert "everybody may read me/public" in ended.stderr.splitlines()[-1]
    assert hub.repositories["me/public"].commits == commits
