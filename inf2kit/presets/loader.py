"""Finding presets: the ones that ship with inf2kit, or a file of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

from inf2kit import catalog
from inf2kit.errors import PresetError, suggest
from inf2kit.presets.schema import Preset, parse_preset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent


def preset_names() -> tuple[str, ...]:
    """The names of the presets that ship with inf2kit, in alphabetical order."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.toml")))


def load_preset(name_or_path: str) -> Preset:
    """A preset by name, or from a TOML file of one's own (anything ending in ``.toml``).

    Raises:
        PresetError: naming the preset, key or value that is wrong, what is allowed and the nearest
            spelling.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
    elif name_or_path in preset_names():
        path = _HERE / f"{name_or_path}.toml"
    else:
        close = suggest(name_or_path, preset_names())
        raise PresetError(
            f"there is no preset {name_or_path!r}{close or ';'} there are {', '.join(preset_names())}; "
            "or give the path of a .toml file"
        )
    return parse_preset(path.stem, _read_toml(path), instances=catalog.instances())


def _read_toml(path: Path) -> dict[str, object]:
    try:
        values: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
        return values
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read: {error.strerror or error}; give the path of a .toml file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not TOML: {error}; mend the line it names") from None
