"""Stores of packages: interrupted uploads, full disks, and two who publish the same."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import inf2kit
from inf2kit.package import collect, open_store, verify
from inf2kit.package.hashing import PART_SIZE, HashedFile
from inf2kit.package.stores.upload import Upload, sha256_header
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")


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


def test_a_publisher_that_fails_leaves_the_package_that_another_has_made(
    weights: Path, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "out"))
    digest = packages.publish(collect(LOCAL, weights), store).digest
    store.abandon(digest)
    verify(store, digest)


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
