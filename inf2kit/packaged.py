"""What packaging and the engine must agree on, so that the one finds what the other has written.

This module ships inside the model package: standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

#: The manifest's name in a package.
MANIFEST = "inf2kit.json"
#: Raised when the manifest changes in a way that older readers would misread.
FORMAT = 1
_BLOCK = 2**20


def sha256_of(path: Path) -> str:
    """Hexadecimal digits of a file's sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
