"""The model directory of an instance: the objects of the Model's own prefix, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.s3 import objects
from inf2kit.serving.model_dir import MANIFEST

#: Stops somebody who is not root from writing where SageMaker has a read-only mount.
_FOLDER, _FILE = 0o555, 0o444


class Artefacts:
    """Fetches each prefix once; instances get links.

    Args:
        folder: Where fetched prefixes lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def lay_out(self, uri: str, model_dir: Path) -> None:
        """Make an instance's model directory, read-only.

        Raises:
            AwsError: there is nothing under the prefix.
        """
        with self._lock:
            source = self._fetched(uri)
        for path in sorted(source.rglob("*")):
            if path.is_file():
                target = model_dir / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        for folder in [*(path for path in model_dir.rglob("*") if path.is_dir()), model_dir]:
            folder.chmod(_FOLDER)

    def _fetched(self, uri: str) -> Path:
        found = objects.below(uri)
        if not found:
            raise AwsError("ValidationException", f"Could not find model data at {uri}.")
        # Objects may change under a prefix; a restart then finds the new ones, as on AWS.
        listing = [(name, key.etag) for name, key in sorted(found.items())]
        digest = hashlib.sha256(json.dumps([uri, listing]).encode()).hexdigest()[:32]
        path = self._folder / digest
        if not path.exists():
            fetching = self._folder / f"{digest}.part"
            shutil.rmtree(fetching, ignore_errors=True)
            objects.fetch(uri, fetching)
            for file in fetching.rglob("*"):
                if file.is_file():
                    file.chmod(_FILE)
            fetching.rename(path)
        return path


def snapshot(model_dir: Path) -> dict[str, int]:
    """What a model directory holds, to see later whether somebody wrote there.

    A user who is root writes to read-only folders too; SageMaker's mount refuses even that.
    """
    return {
        str(path.relative_to(model_dir)): path.stat().st_mtime_ns
        for path in model_dir.rglob("*")
        if path.is_file()
    }


def notice(uri: str) -> str:
    """What about a package is not the real thing; empty where it does not say."""
    content = objects.read(f"{uri.rstrip('/')}/{MANIFEST}")
    try:
        return str(json.loads(content or b"{}").get("notice") or "")
    except (ValueError, AttributeError):
        return ""
