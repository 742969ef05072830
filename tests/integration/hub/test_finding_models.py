"""What the hub refuses, and a hub that does not work: one sentence each, by the command that meets it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.hub_double import Account, HubDouble, answer, hold
from tests.helpers.servers import free_port
from tests.integration.hub.conftest import PYTHONS, Run

PRESET = "smollm2-135m-local"
MODEL = "org/small"
TOKEN = "hf_" + "mine" * 6
HTML = b"<!doctype html><title>Log in to the network</title>"


@pytest.fixture(autouse=True)
def _accounts(hub: HubDouble, llama: Mapping[str, bytes]) -> None:
    hub.accounts[TOKEN] = Account("me")
    hub.accounts[TOKEN + "old"] = Account("me", expired=True)
    hub.add(MODEL, dict(llama))
    hub.add("org/private", dict(llama), private=True)
    hub.add("org/gated", dict(llama), gated=True)
    hub.add("org/texts", {"data.csv": b"x"}, kind="dataset")
    hub.add("org/words", {name: data for name, data in llama.items() if "token" not in name})
    hub.add("org/pickles", {"config.json": b"{}", "pytorch_model.bin": b"x", "tokenizer.json": b"{}"})


@pytest.mark.parametrize("client", PYTHONS)
@pytest.mark.parametrize(
    ("model", "token", "sentence"),
    [
        ("org/gated", "", "org/gated is gated: accept its licence at {hub}/org/gated, and set HF_TOKEN to a"),
        ("org/gated", TOKEN, "the account of your token (HF_TOKEN) may not read it: accept its licence at"),
        ("org/nothing", "", "has no model org/nothing that everybody may read; check its name"),
        (
            "org/nothing",
            TOKEN,
            "has no model org/nothing that your token (HF_TOKEN) may read; check its name",
        ),
        (
            "org/private",
            "",
            "has no model org/private that everybody may read; check its name, or set HF_TOKEN",
        ),
        ("org/private", TOKEN, "org/private that your token (HF_TOKEN) may read"),
        (MODEL, "hf_wrong", "refuses your token, HF_TOKEN (Invalid credentials in Authorization header)"),
        (MODEL, TOKEN + "old", 'refuses your token, HF_TOKEN (User Access Token "laptop" is expired); make'),
        ("nothing", "", "there is no folder 'nothing' here, and the Hugging Face hub has no model nothing"),
        ("org/words", "", "org/words lacks its tokenizer"),
        (
            f"{MODEL}@v9",
            "",
            "org/small has no revision 'v9'; its branches, tags and commits are at {hub}/org",
        ),
        (
            "org/pickles",
            "",
            "org/pickles lacks model.safetensors: its weights are pickled (pytorch_model.bin)",
        ),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    client: str, model: str, token: str, sentence: str, hub: HubDouble, run: Run, tmp_path: Path
) -> None:
    ended = run(
        *["compile", PRESET, "--model", model, "--output", tmp_path / "out"], client=client, HF_TOKEN=token
    )
    assert ended.returncode == 1
    assert sentence.format(hub=hub.url) in ended.stderr.splitlines()[-1]
    assert TOKEN not in ended.stderr + ended.stdout


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_dataset_is_called_one(token: str, run: Run, tmp_path: Path) -> None:
    ended = run("compile", PRESET, "--model", "org/texts", "--output", tmp_path / "out", HF_TOKEN=token)
    assert ended.stderr.splitlines()[-1] == (
        "Error: org/texts is a dataset of the Hugging Face hub; give a model, OWNER/NAME"
    )


@pytest.mark.parametrize("client", PYTHONS)
@pytest.mark.parametrize(
    ("status", "headers", "body", "sentence"),
    [
        (500, {"Retry-After": "0"}, b"", "has failed (500); see https://status.huggingface.co"),
        (502, {"Retry-After": "0"}, HTML, "has failed (502)"),
        (429, {"RateLimit": '"api";r=0;t=290'}, b"", "takes no more requests from here for now (429); wait"),
        (
            200,
            {"Content-Type": "text/html"},
            HTML,
            "is a login page or a proxy between, or is HF_ENDPOINT wrong",
        ),
        (200, {}, b"{}", "answers with something else than the Hugging Face hub would"),
        (200, {}, b"[]", "answers with something else than the Hugging Face hub would"),
    ],
)
def test_a_hub_that_fails_is_one_sentence(
    client: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    sentence: str,
    hub: HubDouble,
    run: Run,
    tmp_path: Path,
) -> None:
    hub.faults.append(answer("/api/models/", status, headers=headers, body=body))
    ended = run("compile", PRESET, "--model", MODEL, "--output", tmp_path / "out", client=client)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert sentence in last
    assert "has no whole copy of org/small" in last


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:{free}"}, "cannot be reached: it refuses the connection"),
        ({"HF_ENDPOINT": "http://hub.invalid"}, "cannot be reached: its name cannot be resolved"),
        ({"HF_ENDPOINT": "localhost:8080"}, "HF_ENDPOINT is 'localhost:8080'; give an address such as https"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, and"),
        (
            {"HF_HOME": "/proc/hub"},
            "cannot be used (No such file or directory); set HF_HOME to a folder that",
        ),
        ({"HF_TOKEN": "hf_…"}, "the token (HF_TOKEN) has characters that no token has; copy it again"),
    ],
)
def test_what_is_wrong_on_this_machine_is_one_sentence(
    variables: Mapping[str, str], sentence: str, run: Run, tmp_path: Path
) -> None:
    values = {name: value.format(free=free_port()) for name, value in variables.items()}
    ended = run("compile", PRESET, "--model", MODEL, "--output", tmp_path / "out", **values)
    assert ended.returncode == 1
    assert sentence in ended.stderr.splitlines()[-1]


def test_a_hub_that_never_answers_is_given_up(hub: HubDouble, run: Run, tmp_path: Path) -> None:
    hub.faults.append(hold("/api/models/"))
    arguments = ["compile", PRESET, "--model", MODEL, "--output", tmp_path / "out"]
    ended = run(*arguments, HF_HUB_ETAG_TIMEOUT="1")
    assert "does not answer within 1 s; check the network" in ended.stderr.splitlines()[-1]


def test_a_busy_hub_is_asked_again(hub: HubDouble, run: Run, tmp_path: Path) -> None:
    hub.faults += [
        answer("/api/models/", 429, times=1, headers={"RateLimit": '"api";r=0;t=0'}),
        answer("/api/models/", 503, times=1, headers={"Retry-After": "0"}),
        answer("/resolve/.*tokenizer.json", 429, times=1, headers={"Retry-After": "0"}),
    ]
    ended = run("compile", PRESET, "--model", MODEL, "--output", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("the hub answers 429; trying again in 0 s") == 2
    assert "the hub answers 503; trying again in 0 s" in ended.stderr


def test_whether_a_model_of_the_hub_fits_is_computed_without_its_weights(hub: HubDouble, run: Run) -> None:
    shapes = ["--batch-size", "1", "--sequence-length", "64", "--tensor-parallel-size", "2"]
    arguments = ["presets", "check", "--instance-type", "ml.inf2.xlarge", *shapes, "--model"]
    ended = run(*arguments, MODEL)
    assert ended.returncode == 0, ended.stderr
    assert "org/small" in ended.stdout
    assert not [call for call in hub.calls if call.path.startswith("/cdn/")]
    assert "has no model org/nothing" in run(*arguments, "org/nothing").stderr


def test_a_job_is_not_started_for_a_model_that_it_could_not_compile(
    hub: HubDouble, llama: Mapping[str, bytes], run: Run
) -> None:
    arguments = [
        *["compile", "tinyllama-1.1b-starter", "--output", "s3://models/m", "--region", "us-east-1"],
        *["--job", "--role", "arn:aws:iam::123456789012:role/Jobs", "--dry-run", "--model"],
    ]
    config = json.dumps({**json.loads(llama["config.json"]), "model_type": "gpt2"}).encode()
    hub.add("org/gpt", {**llama, "config.json": config})
    assert "has no model org/nothing" in run(*arguments, "org/nothing").stderr
    assert "model_type is 'gpt2'" in run(*arguments, "org/gpt").stderr
    ended = run(*arguments, MODEL)
    assert ended.returncode == 0, ended.stderr
    # What the secret's token may read is not known here.
    assert run(*arguments, "org/private", "--token-secret", "hub").returncode == 0
    hub.faults.append(answer("/api/", 500, headers={"Retry-After": "0"}))
    assert "whether the job can compile it is not known" in run(*arguments, MODEL).stderr
