"""What a model is called that comes from a folder: the name that its endpoint answers with."""

from __future__ import annotations

import re
from pathlib import Path

from inf2kit.checkpoint.folder import read_json
from inf2kit.errors import CheckpointError
from inf2kit.serving.model_dir import NEURON_CONFIG

#: Folder names that tools choose, and that say nothing without the folder above.
_COMMON = re.compile(
    r"(best|final|hf|last|latest|merged|models?|outputs?|out|weights)([_-](model|weights))?|checkpoint-\d+",
    re.IGNORECASE,
)
_CACHED = re.compile(r"models--(.+)")


def name_of(folder: Path) -> str:
    """Return the name of the model in a folder.

    That is ``ORG/NAME`` for a snapshot in the hub's cache, for a compiled model the name of what was
    compiled, and otherwise the folder's own name, with that of the folder above where tools choose the last
    one.
    """
    folder = folder.expanduser().resolve()
    if (folder / NEURON_CONFIG).is_file():
        try:
            source = read_json(folder / NEURON_CONFIG, folder / NEURON_CONFIG).get("checkpoint_id")
        except CheckpointError:
            source = None
        if isinstance(source, str) and source:
            return name_of(Path(source)) if Path(source).is_absolute() else source
    if folder.parent.name == "snapshots" and (cached := _CACHED.fullmatch(folder.parents[1].name)):
        return cached[1].replace("--", "/")
    if _COMMON.fullmatch(folder.name) and folder.parent.name:
        return f"{folder.parent.name}/{folder.name}"
    return folder.name
