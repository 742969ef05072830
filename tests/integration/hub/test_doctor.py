"""``inf2kit doctor PRESET`` and the gate of the preset's model, with the hub's real client."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.hub_double import Account, HubDouble
from tests.integration.hub.conftest import Run

MODEL = "meta-llama/Llama-2-7b-hf"


def look(run: Run, tmp_path: Path, token: str = "", **variables: str) -> tuple[str, str, str]:
    """Return status, reason and hint of the licence, for an account's token."""
    nowhere = str(tmp_path / "none")
    account = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
    ended = run(
        "doctor",
        "llama2-7b-budget",
        "--json",
        AWS_EC2_METADATA_DISABLED="true",
        HF_TOKEN=token,
        **account,
        **variables,
    )
    findings = json.loads(ended.stdout)["findings"]
    (licence,) = [finding for finding in findings if finding["check"] == "licence"]
    return licence["status"], licence["reason"], licence["hint"]


def test_a_licence_that_is_not_accepted(hub: HubDouble, run: Run, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"0" * 64, "tokenizer.json": b"{}"}
    hub.add(MODEL, files, gated=True, readers={"reader"})
    hub.accounts |= {"hf_reader": Account("reader", "read"), "hf_other": Account("other", "read")}
    page = f"{hub.url}/{MODEL}"
    status, reason, hint = look(run, tmp_path)
    assert (status, reason) == ("problem", f"{MODEL} is gated")
    assert hint.startswith(f"accept its licence at {page}, and set HF_TOKEN")
    status, reason, hint = look(run, tmp_path, "hf_other")
    assert status == "problem"
    assert "the account of your token (HF_TOKEN) may not read it" in reason
    assert page in hint
    assert look(run, tmp_path, "hf_reader") == (
        "ok",
        f"{MODEL} is gated, and your account may read it",
        "",
    )
    status, reason, _ = look(run, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == "not checked"
    assert "127.0.0.1:9" in reason
