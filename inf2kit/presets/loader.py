"""Loading presets: those that ship with inf2kit, and the user's own files."""

from __future__ import annotations

from pathlib import Path

from inf2kit import toml
from inf2kit.errors import PresetError, suggest
from inf2kit.names import preset_name
from inf2kit.presets.parser import parse_preset
from inf2kit.presets.schema import Preset

_FOLDER = Path(__file__).parent


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that ship with inf2kit, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_preset(name_or_path: str) -> Preset:
    """Load a preset by its name, or from a file of your own.

    Args:
        name_or_path: A name, or the path of a TOML file, which ends in ``.toml``.

    Raises:
        PresetError: naming the preset, key or value that is wrong, what is allowed and the nearest
            spelling.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
    elif name_or_path in preset_names():
        path = _FOLDER / f"{name_or_path}.toml"
    else:
        close = suggest(name_or_path, preset_names())
        raise PresetError(
            f"there is no preset {name_or_path!r}{close or ';'} there are {', '.join(preset_names())}; "
            "or give the path of a .toml file"
        )
    return parse_preset(preset_name(str(path)), _read(path))


def _read(path: Path) -> dict[str, object]:
    try:
        return toml.read(path)
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read: {error.strerror or error}; give the path of a .toml file"
        ) from None
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not TOML: {error}; correct the line that it names") from None
