"""A user's own handler: the file that ships as ``code/inference.py`` in place of inf2kit's."""

from __future__ import annotations

import ast
import symtable
from importlib.util import decode_source
from pathlib import Path

from inf2kit import catalog
from inf2kit.errors import PackageError

#: Hooks that the inference toolkit must find. It replaces a missing one by its own, which loads the model in
#: every worker.
REQUIRED_HOOKS = ("model_fn", "predict_fn")
_EXAMPLE = "from inf2kit.serving.worker import input_fn, model_fn, output_fn, predict_fn"


def check_handler(path: Path) -> Path:
    """Check that a file can serve as a package's ``inference.py``.

    The code is parsed and not run: what it imports may exist only in the container.

    Raises:
        PackageError: the file is missing, is not Python of the image's version, or lacks a hook.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackageError(
            f"the handler {path} cannot be read: {error.strerror}; give --handler a Python file"
        ) from None
    version = catalog.image().versions["python"]
    try:
        source = decode_source(content)
        tree = ast.parse(source, str(path), feature_version=_feature_version(version))
        compile(tree, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # not UTF-8, and null bytes before 3.12, are a ValueError
        raise PackageError(
            f"the handler {path} is not Python {version}, which the endpoint's image runs: {error}"
        ) from None
    defined = _top_level_names(source, path)
    missing = [name for name in REQUIRED_HOOKS if name not in defined]
    if missing:
        raise PackageError(
            f"the handler {path} does not define {' and '.join(missing)} at its top level; write each as a "
            f"function, or import inf2kit's own by name: {_EXAMPLE}"
        )
    return path


def _feature_version(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _top_level_names(source: str, path: Path) -> set[str]:
    """Names that a module defines, assigns or imports."""
    table = symtable.symtable(source, str(path), "exec")
    return {
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    }
