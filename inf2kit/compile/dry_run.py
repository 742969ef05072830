"""What ``compile --dry-run`` prints: the model, what would be downloaded, what would be compiled."""

from __future__ import annotations

from collections.abc import Callable

from inf2kit import catalog
from inf2kit.compile import hub, local
from inf2kit.compile.hub import HubModel, HubUnreachableError
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture

_MB = 1e6
#: So many of the files that are left out are named.
_NAMED = 3


def lines(spec: CompileSpec, progress: Callable[[str], None]) -> list[str]:
    """Describe a compilation on this machine. The hub is asked, and nothing is kept of its answers.

    Args:
        spec: What to compile.
        progress: Called with what could not be found out, and why.

    Raises:
        CompileError: the model cannot be found, read or compiled.
    """
    try:
        pinned, remote = local.pin(spec, progress)
    except HubUnreachableError as reason:
        progress(f"{reason}: what would be downloaded is not known")
        return local.plan(spec).lines()
    if remote is None:
        return local.plan(pinned).lines()
    architecture = _read_architecture(remote, progress)
    return [*local.plan(pinned, architecture).lines(), *_download(remote)]


def _read_architecture(remote: HubModel, progress: Callable[[str], None]) -> Architecture | None:
    """Read a model's sizes from the hub; None if that may not be read, but the presets know them."""
    try:
        config = hub.read_config(remote, progress, keep=False)
    except CompileError as reason:
        if remote.model not in catalog.models():
            raise
        progress(str(reason))
        return None
    return Architecture.from_config(config, f"{remote.model} at {remote.revision}")


def _download(remote: HubModel) -> list[str]:
    """Describe what would be downloaded, and what of the repository would not."""
    needed, missing = remote.needed, hub.missing_bytes(remote)
    rest = {name: size for name, size in remote.files.items() if name not in needed and size > _MB}
    result = [
        f"download {missing / 1e9:.2f} GB of {sum(needed.values()) / 1e9:.2f} GB, {len(needed)} files, to "
        f"{hub.cache_folder()}"
    ]
    if rest:
        largest = sorted(rest, key=lambda name: -rest[name])[:_NAMED]
        named = ", ".join(f"{name} {rest[name] / 1e9:.2f} GB" for name in largest)
        more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
        result.append(f"  not needed, and left out: {named}{more}")
    return result
