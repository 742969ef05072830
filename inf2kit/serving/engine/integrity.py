"""The files of the model directory are those that were packaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.model_dir import MANIFEST, PACKAGE_DIGEST, digest_of, sha256_of

_THREADS = 8
#: Names the manifest whose files were compared: an engine that is started again need not read them again.
_CHECKED = "checked"


def check_files(model_dir: Path, run_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Compare the manifest with the digest that was deployed, and every file with the manifest.

    A flipped byte in the weights gives wrong text and no error; here it gives a sentence and no endpoint. It
    costs one reading of the files, which the load then finds in the page cache.

    Args:
        model_dir: The package as SageMaker has unpacked it.
        run_dir: Remembers that the files were compared; no error when it cannot.
        environ: May hold ``INF2KIT_PACKAGE_DIGEST``, the digest that was deployed.

    Raises:
        ModelDirectoryError: another package than the deployed one, or a file that is missing, differs, or is
            not part of the package.
        OSError: a file could not be read.
    """
    content = (model_dir / MANIFEST).read_bytes()
    deployed, digest = environ.get(PACKAGE_DIGEST), digest_of(content)
    if deployed and deployed != digest:
        raise ModelDirectoryError(
            f"the package in {model_dir} is {digest}, and {deployed} was deployed: somebody has replaced "
            "its manifest; make the package again and deploy that"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    if _was_checked(run_dir, sha256):
        return
    files: Mapping[str, Mapping[str, object]] = json.loads(content).get("files", {})
    # SageMaker brings everything below the package's prefix, and what was put there later might be run.
    for name in _names(model_dir):
        if name not in files and name != MANIFEST:
            raise ModelDirectoryError(
                f"the package in {model_dir} is damaged: {name} is not part of it; delete that file from the "
                "package, and find out who has put it there"
            )

    def fault(item: tuple[str, Mapping[str, object]]) -> str:
        name, entry = item
        path = model_dir / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {entry['size']:,}"
        return "" if sha256_of(path) == entry["sha256"] else f"{name} was changed, its sha256 differs"

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for sentence in filter(None, pool.map(fault, files.items())):
            raise ModelDirectoryError(
                f"the package in {model_dir} is damaged: {sentence}; make the package again and deploy that"
            )
    # A full disk costs the next start another reading, and is no damage of the package.
    with contextlib.suppress(OSError):
        (run_dir / _CHECKED).write_text(sha256, encoding="ascii")


def _was_checked(run_dir: Path, sha256: str) -> bool:
    try:
        return (run_dir / _CHECKED).read_text(encoding="ascii") == sha256
    except (OSError, ValueError):
        return False


def _names(model_dir: Path) -> Iterator[str]:
    """Everything in the directory but real folders: a link to a folder is no folder of the package."""
    for folder, folders, files in os.walk(model_dir, onerror=_raise):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*files, *links):
            yield (here / name).relative_to(model_dir).as_posix()


def _raise(error: OSError) -> None:
    raise error
