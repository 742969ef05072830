"""Model data: where a model's objects lie in S3, and the read-only model directory of an instance."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.serving.model_dir import MANIFEST

#: SageMaker mounts the model read-only; these modes stop every user but root from writing.
_FOLDER_MODE, _FILE_MODE = 0o555, 0o444


def container_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The only container of a CreateModel request."""
    containers = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    container: Mapping[str, Any] = containers[0]
    return container


def uri_of(model: Mapping[str, Any]) -> str:
    """The S3 prefix of a CreateModel request; empty if it has none."""
    source = container_of(model).get("ModelDataSource", {}).get("S3DataSource", {})
    return str(source.get("S3Uri", ""))


class ModelDataCache:
    """Downloads each prefix once; instances get hard links to it.

    Args:
        folder: The folder of the downloaded prefixes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def link(self, uri: str, model_dir: Path) -> None:
        """Create an instance's model directory, read-only.

        Raises:
            AwsError: no object lies below the prefix.
        """
        with self._lock:
            source = self._download(uri)
        for path in sorted(source.rglob("*")):
            if path.is_file():
                target = model_dir / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        for folder in [*(path for path in model_dir.rglob("*") if path.is_dir()), model_dir]:
            folder.chmod(_FOLDER_MODE)

    def _download(self, uri: str) -> Path:
        listing = objects.list_prefix(uri)
        if not listing:
            raise AwsError("ValidationException", f"Could not find model data at {uri}.")
        # Objects may change below a prefix; a restart then serves the new ones, as on AWS.
        etags = [(name, key.etag) for name, key in sorted(listing.items())]
        digest = hashlib.sha256(json.dumps([uri, etags]).encode()).hexdigest()[:32]
        path = self._folder / digest
        if not path.exists():
            partial = self._folder / f"{digest}.part"
            shutil.rmtree(partial, ignore_errors=True)
            objects.download_prefix(uri, partial)
            for file in partial.rglob("*"):
                if file.is_file():
                    file.chmod(_FILE_MODE)
            partial.rename(path)
        return path


def snapshot(model_dir: Path) -> dict[str, int]:
    """List the files of a model directory with their modification times, to detect writes later.

    A container of the user root can write to read-only folders; SageMaker's mount refuses even that.
    """
    return {
        str(path.relative_to(model_dir)): path.stat().st_mtime_ns
        for path in model_dir.rglob("*")
        if path.is_file()
    }


def read_notice(uri: str) -> str:
    """Read what a package says is simulated; empty if it does not say anything."""
    manifest = objects.read(f"{uri.rstrip('/')}/{MANIFEST}")
    try:
        return str(json.loads(manifest or b"{}").get("notice") or "")
    except (ValueError, AttributeError):
        return ""
