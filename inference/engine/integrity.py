"""The files of the model directory are those that were packaged."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inf2kit.errors import ModelDirectoryError
from inf2kit.packaged import MANIFEST, sha256_of

_THREADS = 8
#: Names the manifest that was found true: an engine that is started again need not look again.
_CHECKED = "checked"


def check_files(model_dir: Path, run_dir: Path) -> None:
    """Compare every file with the sha256 in the manifest.

    A flipped byte in the weights gives wrong text and no error; here it gives a sentence and no endpoint. It
    costs one reading of the files, which the load then finds in the page cache.

    Raises:
        ModelDirectoryError: naming the first file that is missing or differs.
    """
    content = (model_dir / MANIFEST).read_bytes()
    mark, digest = run_dir / _CHECKED, hashlib.sha256(content).hexdigest()
    if mark.exists() and mark.read_text(encoding="ascii") == digest:
        return

    def wrong(item: tuple[str, dict[str, object]]) -> str:
        name, entry = item
        path = model_dir / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {entry['size']:,}"
        return "" if sha256_of(path) == entry["sha256"] else f"{name} was changed, its sha256 differs"

    files = json.loads(content).get("files", {})
    # SageMaker brings everything under the package's prefix; code that was put there later would be run.
    for path in (model_dir / "code").rglob("*"):
        name = path.relative_to(model_dir).as_posix()
        if path.is_file() and name not in files and "__pycache__" not in path.parts:
            raise ModelDirectoryError(f"the package in {model_dir} is damaged: {name} is not part of it")
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for fault in pool.map(wrong, files.items()):
            if fault:
                raise ModelDirectoryError(
                    f"the package in {model_dir} is damaged: {fault}; make the package again and deploy that"
                )
    mark.write_text(digest, encoding="ascii")
