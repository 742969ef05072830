"""Check that the files of the model directory are those that were packaged."""

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
#: File with the sha256 of the manifest whose files were compared: later engines do not read them all again.
_CHECKED_FILE = "checked"


def check_files(model_dir: Path, run_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Compare the manifest with the digest that was deployed, and every file with the manifest.

    A flipped byte in the weights would give wrong texts and no error. The check reads every file once, which
    puts it into the page cache for the load.

    Args:
        model_dir: The package as SageMaker has unpacked it.
        run_dir: The run directory; notes that the files were compared.
        environ: May have ``INF2KIT_PACKAGE_DIGEST``, the digest of the deployed package.

    Raises:
        ModelDirectoryError: it is not the deployed package, or a file is missing, differs, or is not part of
            the package.
        OSError: a file could not be read.
    """
    content = (model_dir / MANIFEST).read_bytes()
    deployed, digest = environ.get(PACKAGE_DIGEST), digest_of(content)
    if deployed and deployed != digest:
        raise ModelDirectoryError(
            f"the package in {model_dir} is {digest}, and {deployed} was deployed: its manifest was replaced "
            "since; make the package again and deploy that"
        )
    sha256 = hashlib.sha256(content).hexdigest()
    if _was_checked(run_dir, sha256):
        return
    files: Mapping[str, Mapping[str, object]] = json.loads(content).get("files", {})
    # SageMaker downloads everything below the package's prefix, and code that was put there later might run.
    for name in _list_files(model_dir):
        if name not in files and name != MANIFEST:
            raise ModelDirectoryError(
                f"the package in {model_dir} is damaged: {name} is not part of it; delete that file from the "
                "package, and find out where it comes from"
            )

    def find_fault(item: tuple[str, Mapping[str, object]]) -> str:
        name, entry = item
        path = model_dir / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {entry['size']:,}"
        return "" if sha256_of(path) == entry["sha256"] else f"{name} was changed, its sha256 differs"

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for fault in filter(None, pool.map(find_fault, files.items())):
            raise ModelDirectoryError(
                f"the package in {model_dir} is damaged: {fault}; make the package again and deploy that"
            )
    # With a full disk the next engine reads the files again; the package is not damaged.
    with contextlib.suppress(OSError):
        (run_dir / _CHECKED_FILE).write_text(sha256, encoding="ascii")


def _was_checked(run_dir: Path, sha256: str) -> bool:
    try:
        return (run_dir / _CHECKED_FILE).read_text(encoding="ascii") == sha256
    except (OSError, ValueError):
        return False


def _list_files(model_dir: Path) -> Iterator[str]:
    """Names of all files and links; a link to a folder counts as a file, since no package has one."""
    for folder, subfolders, files in os.walk(model_dir, onerror=_raise):
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in (*files, *links):
            yield Path(folder, name).relative_to(model_dir).as_posix()


def _raise(error: OSError) -> None:
    raise error
