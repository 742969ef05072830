"""Verifying finds every difference, and pruning keeps what is in use."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main
from inf2kit.errors import PackageError
from inf2kit.package import collect, list_packages, open_store, select_prunable, verify
from inf2kit.package.maintenance import ListedPackage
from inf2kit.package.stores.base import StoredPackage
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")


def test_verify_finds_a_flipped_byte_a_missing_file_and_a_changed_manifest(
    weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    store = open_store(str(out))
    digest = packages.publish(collect(LOCAL, weights), store).digest
    shard = out / digest / "model-00001-of-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    result = CliRunner().invoke(main, ["packages", "verify", f"{out}/{digest}/"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"Error: the package {out}/{digest}/ is damaged: model-00001-of-00002.safetensors was changed: "
        "its sha256 differs; delete the whole of it, and make it again"
    ]
    (out / digest / "code/inference.py").unlink()
    with pytest.raises(PackageError, match=r"code/inference.py is missing|1 more files are wrong"):
        verify(store, digest)
    manifest = out / digest / "inf2kit.json"
    values = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**values, "revision": "other"}), encoding="utf-8")
    with pytest.raises(PackageError, match="it was changed"):
        verify(store, digest)
    manifest.unlink()
    with pytest.raises(PackageError, match="no manifest"):
        verify(store, digest)
    assert [package.stored.whole for package in list_packages(store)] == [False]


def test_what_somebody_puts_into_a_package_later_is_found(weights: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    digest = packages.publish(collect(LOCAL, weights), store).digest
    (tmp_path / "out" / digest / "code/sitecustomize.py").touch()
    with pytest.raises(PackageError, match=r"code/sitecustomize\.py is not part of it"):
        verify(store, digest)


def test_prune_keeps_what_is_used_the_newest_and_what_was_just_touched() -> None:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.timezone.utc)

    def package(
        name: str, days: float, preset: str = "a", *, used: bool = False, whole: bool = True
    ) -> ListedPackage:
        stored = StoredPackage(name, whole, now - dt.timedelta(days=days), 1)
        return ListedPackage(stored, preset if whole else "", "", "host", ("model",) if used else ())

    packages_ = [
        package("newest", 2),
        package("used", 3, used=True),
        package("old", 4),
        package("other preset", 4, "b"),
        package("older", 5),
        package("on its way", 0.1, whole=False),
        package("broken off", 9, whole=False),
    ]
    prunable = select_prunable(packages_, keep=1, older_than=dt.timedelta(days=1), now=now)
    assert [package.stored.digest for package in prunable] == ["old", "older", "broken off"]
