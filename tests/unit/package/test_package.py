"""Packages: what goes in, under which name, and what is refused before anything is made."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli import main
from inf2kit.errors import PackageError
from inf2kit.package import Manifest, collect, list_packages, open_store, publish, select_prunable, verify
from inf2kit.package.hashing import PART_SIZE, HashedFile
from inf2kit.package.maintenance import ListedPackage
from inf2kit.package.stores.base import StoredPackage
from inf2kit.package.stores.upload import Upload, sha256_header
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
NEURON = inf2kit.load_preset("llama2-7b-budget")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return packages.write_weights(tmp_path / "weights")


def test_the_same_files_have_the_same_digest_wherever_and_whenever_they_were_written(
    weights: Path, tmp_path: Path
) -> None:
    first = collect(LOCAL, weights).manifest
    other = tmp_path / "elsewhere"
    shutil.copytree(weights, other)
    os.utime(other / "config.json", (1, 1))
    assert collect(LOCAL, other).manifest.digest == first.digest
    (other / "config.json").write_text('{"vocab_size": 11}', encoding="utf-8")
    assert collect(LOCAL, other).manifest.digest != first.digest
    assert Manifest.parse(first.to_bytes(), "here") == Manifest.parse(first.to_bytes(), "there")
    assert Manifest.parse(first.to_bytes(), "here").digest == first.digest


def test_a_package_holds_weights_code_and_vendored_packages_and_nothing_of_the_installer(
    weights: Path,
) -> None:
    files = collect(LOCAL, weights).manifest.files
    for name in (
        "config.json",
        "code/inference.py",
        "code/inf2kit/serving/wire/request.py",
        "code/vendor/h11/__init__.py",
    ):
        assert name in files
    names = {Path(name).name for name in files}
    assert not names & {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "requirements.txt"}
    assert not any("__pycache__" in name for name in files)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"neuronxcc_version": "2.19.8089.0"}, "neuronx_cc 2.19.8089.0, the image"),
        ({"optimum_neuron_version": "0.4.5"}, "optimum_neuron 0.4.5, the image"),
        ({"batch_size": 4}, "compiled with batch_size 4, the preset 'llama2-7b-budget' asks for 1"),
        ({"sequence_length": 4096}, "compiled with sequence_length 4096"),
        ({"tp_degree": 24}, "compiled with tp_degree 24"),
        ({"torch_dtype": "torch.bfloat16"}, "compiled with torch_dtype bfloat16"),
    ],
)
def test_an_artefact_that_was_compiled_for_something_else_is_refused(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    with pytest.raises(PackageError, match=said):
        collect(NEURON, packages.write_artifacts(tmp_path / "artefact", NEURON, **changed))


def test_an_artefact_of_the_right_versions_becomes_a_package_that_says_them(tmp_path: Path) -> None:
    made = collect(NEURON, packages.write_artifacts(tmp_path / "artefact", NEURON), revision="main").manifest
    assert (made.target, made.revision, made.notice) == ("inf2", "main", None)
    assert made.versions["neuronx_cc"] == "2.21.18209.0"
    assert str(made.image_tag).endswith("sdk2.26.0-ubuntu22.04")
    made.check_fits(NEURON, str(made.image_tag))
    with pytest.raises(PackageError, match=r"for the image .* loads only in the image that compiled it"):
        made.check_fits(NEURON, "another-tag")
    with pytest.raises(
        PackageError, match="made for the preset 'llama2-7b-budget', not for 'llama2-7b-latency'"
    ):
        made.check_fits(inf2kit.load_preset("llama2-7b-latency"), str(made.image_tag))


def test_a_rehearsal_keeps_the_shapes_of_the_preset_and_says_what_stands_in(weights: Path) -> None:
    made = collect(NEURON, weights, rehearsal=True).manifest
    assert made.preset["shapes"]["batch_size"] == NEURON.shapes.batch_size
    assert (made.target, made.preset["compute"]["backend"]) == ("cpu", "cpu")
    assert "stands in for meta-llama/Llama-2-7b-hf on ml.inf2.8xlarge" in str(made.notice)
    made.check_fits(NEURON, "any")


def break_shard(path: Path) -> None:
    (path / "model-00002-of-00002.safetensors").unlink()


def cut_shard(path: Path) -> None:
    shard = path / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


def no_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def own_code(path: Path) -> None:
    (path / "code").mkdir()
    (path / "code/inference.py").touch()


def no_json(path: Path) -> None:
    (path / "model.safetensors.index.json").write_text("{", encoding="utf-8")


def not_safetensors(path: Path) -> None:
    (path / "model-00001-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_shard, "lacks model-00002-of-00002.safetensors; save the model again"),
        (cut_shard, "should have .* by its own header; fetch it again"),
        (no_tokenizer, "lacks its tokenizer"),
        (no_config, "lacks config.json"),
        (own_code, "holds code/inference.py"),
        (no_json, "cannot be read: .*; fetch it again"),
        (not_safetensors, "is not a safetensors file; fetch it again"),
    ],
)
def test_a_source_that_is_not_whole_is_refused_in_one_sentence(
    weights: Path, damage: object, said: str, tmp_path: Path
) -> None:
    damage(weights)  # type: ignore[operator]
    result = CliRunner().invoke(
        main, ["package", str(weights), "--preset", LOCAL.name, "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert re.search(said, result.stderr.splitlines()[-1])
    with pytest.raises(PackageError, match=said):
        collect(LOCAL, weights)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_out_of_the_source_is_not_published(weights: Path, tmp_path: Path) -> None:
    secret = tmp_path / "credentials"
    secret.write_text("aws_secret_access_key = x", encoding="utf-8")
    (weights / "notes.json").symlink_to(secret)
    with pytest.raises(PackageError, match=r"notes\.json is a link to .*/credentials, outside of"):
        collect(LOCAL, weights)
    (weights / "notes.json").unlink()
    (weights / "folder").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="folder is a link to"):
        collect(LOCAL, weights)


def test_links_within_a_source_and_those_of_a_hubs_cache_are_files(weights: Path, tmp_path: Path) -> None:
    digest = collect(LOCAL, weights).manifest.digest
    snapshot, blobs = tmp_path / "models--a--b/snapshots/0123", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(weights.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    assert collect(LOCAL, snapshot).manifest.digest == digest
    (snapshot / "tokenizer.json").rename(snapshot / "other.json")
    (snapshot / "tokenizer.json").symlink_to("other.json")
    assert "tokenizer.json" in collect(LOCAL, snapshot).files


def test_pickles_are_left_out_but_for_the_compiled_graphs(weights: Path, tmp_path: Path) -> None:
    digest = collect(LOCAL, weights).manifest.digest
    for name in ("pytorch_model.bin", "training_args.bin", "original/consolidated.00.pth", "model.pt"):
        (weights / name).parent.mkdir(exist_ok=True)
        (weights / name).write_bytes(b"\x80\x04")
    assert collect(LOCAL, weights).manifest.digest == digest
    compiled = packages.write_artifacts(tmp_path / "artefact", NEURON)
    (compiled / "checkpoint/weights/old.pt").write_bytes(b"\x80\x04")
    files = collect(NEURON, compiled).files
    assert "model.pt" in files
    assert "checkpoint/weights/old.pt" not in files


def test_an_upload_goes_on_by_sha256_where_a_key_makes_etags_mean_nothing(tmp_path: Path) -> None:
    packages.write_safetensors(tmp_path / "shard", 3 * PART_SIZE)
    source = HashedFile.from_path(tmp_path / "shard")
    etag = '"not the MD5 of anything"'
    sent = [
        {
            "PartNumber": number + 1,
            "Size": PART_SIZE,
            "ETag": etag,
            "ChecksumSHA256": sha256_header(source.parts[number]),
        }
        for number in range(3)
    ]
    sent[1]["ChecksumSHA256"] = sha256_header(bytes(32))
    upload = Upload(None, "models", "key", source, {}, lambda: False)
    missing = [task.size for task in upload.tasks("its id", sent)]
    assert missing == [PART_SIZE, source.entry.size - 3 * PART_SIZE]


def test_publishing_twice_writes_once_and_a_changed_line_of_code_copies_the_weights(
    weights: Path, tmp_path: Path
) -> None:
    store, contents = open_store(str(tmp_path / "out")), collect(LOCAL, weights)
    first = packages.publish(contents, store)
    assert set(first.sent) == set(contents.files)
    assert publish.plan(contents, store).is_published
    assert verify(store, first.digest).digest == first.digest

    again = packages.publish(packages.with_changed_code(contents, tmp_path), store)
    assert again.digest != first.digest
    assert set(again.copied) == {name for name in contents.files if name.endswith(".safetensors")}
    assert (
        again.bytes_sent
        == sum(entry.size for name, entry in contents.manifest.files.items() if name not in again.copied) + 1
    )
    assert verify(store, again.digest).size > again.bytes_copied


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
    assert [each.stored.whole for each in list_packages(store)] == [False]


def test_prune_keeps_what_is_used_the_newest_and_what_was_just_touched() -> None:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.timezone.utc)

    def package(
        name: str, days: float, preset: str = "a", *, used: bool = False, whole: bool = True
    ) -> ListedPackage:
        stored = StoredPackage(name, whole, now - dt.timedelta(days=days), 1)
        return ListedPackage(stored, preset if whole else "", ("model",) if used else ())

    packages_ = [
        package("newest", 2),
        package("used", 3, used=True),
        package("old", 4),
        package("other preset", 4, "b"),
        package("older", 5),
        package("on its way", 0.1, whole=False),
        package("broken off", 9, whole=False),
    ]
    chosen = select_prunable(packages_, keep=1, older_than=dt.timedelta(days=1), now=now)
    assert [each.stored.digest for each in chosen] == ["old", "older", "broken off"]


def test_a_damaged_earlier_package_is_not_copied_from(weights: Path, tmp_path: Path) -> None:
    store, contents = open_store(str(tmp_path / "out")), collect(LOCAL, weights)
    first = packages.publish(contents, store)
    (tmp_path / "out" / first.digest / "model-00001-of-00002.safetensors").unlink()
    again = packages.publish(packages.with_changed_code(contents, tmp_path), store)
    assert list(again.copied) == ["model-00002-of-00002.safetensors"]
    verify(store, again.digest)


def test_what_somebody_puts_into_a_package_later_is_found(weights: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    digest = packages.publish(collect(LOCAL, weights), store).digest
    (tmp_path / "out" / digest / "code/sitecustomize.py").touch()
    with pytest.raises(PackageError, match=r"code/sitecustomize\.py is not part of it"):
        verify(store, digest)


def test_a_publisher_that_fails_leaves_the_package_that_another_has_made(
    weights: Path, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "out"))
    digest = packages.publish(collect(LOCAL, weights), store).digest
    store.abandon(digest)
    verify(store, digest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["package", "nowhere", "--preset", LOCAL.name, "--output", "{tmp}/out"],
            "nowhere is not a directory",
        ),
        (
            ["package", "{tmp}/weights", "--preset", "llama", "--output", "{tmp}/out"],
            "there is no preset 'llama'",
        ),
        (
            ["package", "{tmp}/weights", "--preset", NEURON.name, "--output", "{tmp}/out"],
            "lacks neuron_config.json",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "{tmp}/weights/config.json"],
            "cannot be written to",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "gs://bucket/x"],
            "is no place for packages",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "{tmp}/weights/out"],
            "lies inside",
        ),
        (["packages", "verify", "{tmp}/weights"], "does not end in a package's digest"),
        (["packages", "verify", "{tmp}/" + 32 * "0"], "holds no manifest"),
    ],
)
def test_bad_arguments_are_one_sentence(
    weights: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(main, [each.format(tmp=tmp_path) for each in arguments])
    assert result.exit_code == 1
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


def test_a_full_disk_is_one_sentence_and_leaves_nothing(weights: Path, tmp_path: Path) -> None:
    """The limit on a file's size stands in for the end of the disk: the same error of the same call."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "inf2kit.cli",
        "package",
        weights,
        "--preset",
        LOCAL.name,
        "--output",
        out,
    ]
    limit = 1_500_000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=small)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "cannot be written: File too large; make room" in last
    assert list(out.iterdir()) == []
