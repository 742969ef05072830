"""The rotary embedding in ``config.json``, which version 4.55 does not read as transformers 5 writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inf2kit import catalog
from inf2kit.checkpoint.families import FAMILIES

#: Rotary embeddings whose frequencies depend on the longest text of a batch.
_CHANGING_ROPE = ("dynamic", "longrope", "su")
#: What each type of ``rope_scaling`` needs (``modeling_rope_utils.py``).
_ROPE_KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def find_faults(config: Mapping[str, Any], where: str) -> list[str]:
    """Return why the endpoint cannot compute a model's positions, each with what to do.

    Args:
        config: The values of ``config.json``, rewritten for the image.
        where: The file's name in the sentences.
    """
    scaling, theta = config.get("rope_scaling"), config.get("rope_theta", 10_000.0)
    if not _is_positive(theta):
        return [f"{where}: rope_theta is {theta!r}; it must be a number above 0; fetch the file again"]
    parameters = config.get("rope_parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        return [
            f"{where}: rope_parameters is {parameters!r}; it must be an object or null; fetch the file again"
        ]
    if parameters is not None:
        return [
            f"{where}: rope_parameters differ between kinds of layers, which transformers {_version()} in "
            "the endpoint's image does not know; choose another model"
        ]
    if scaling is None:
        return []
    if not isinstance(scaling, Mapping):
        return [f"{where}: rope_scaling is {scaling!r}; it must be an object or null; fetch the file again"]
    kind = str(scaling.get("rope_type") or scaling.get("type"))
    if kind in _CHANGING_ROPE:
        return [
            f"{where}: rope_scaling is of type {kind!r}, which changes with the longest text of a batch, so "
            "that callers would change each other's texts; choose a model without"
        ]
    if kind not in _ROPE_KEYS:
        known = ", ".join(_ROPE_KEYS)
        return [
            f"{where}: rope_scaling is of type {kind!r}, which the endpoint does not know; it knows {known}"
        ]
    for key in _ROPE_KEYS[kind]:
        if not _is_positive(scaling.get(key)):
            return [
                f"{where}: {key} of rope_scaling is {scaling.get(key)!r}; it must be a number above 0; fetch "
                "the file again"
            ]
    return _find_inconsistent_yarn(scaling, config, where) if kind == "yarn" else []


def _find_inconsistent_yarn(scaling: Mapping[str, Any], config: Mapping[str, Any], where: str) -> list[str]:
    """Refuse a factor that version 4.55 ignores: it divides the model's positions by the original ones."""
    positions = config["max_position_embeddings"]
    original = scaling.get("original_max_position_embeddings")
    expected = original * scaling["factor"] if isinstance(original, int) else positions
    if expected == positions:
        return []
    return [
        f"{where}: rope_scaling has the factor {scaling['factor']} and {original} original positions, and "
        f"max_position_embeddings is {positions}, from which transformers {_version()} takes another factor; "
        f"set max_position_embeddings to {expected:g}"
    ]


def rewrite(values: dict[str, Any]) -> list[str]:
    """Rewrite ``rope_parameters`` of transformers 5 as version 4.55 reads them, in place.

    Returns:
        What was changed, in words.
    """
    parameters = _flat_parameters(values.get("rope_parameters"))
    if parameters is not None:
        family = FAMILIES.get(str(values.get("model_type")))
        default = family.rope_theta if family else 10_000.0
        theta = parameters.pop("rope_theta", None) or values.get("rope_theta") or default
        kind = parameters.pop("type", None)
        parameters.setdefault("rope_type", kind or "default")
        factor = parameters.pop("partial_rotary_factor", None)
        if factor is not None:
            values["partial_rotary_factor"] = factor
        del values["rope_parameters"]
        values["rope_theta"] = theta
        is_plain = parameters["rope_type"] == "default"
        values["rope_scaling"] = None if is_plain else _scaling(parameters, values)
        described = _describe_scaling(values["rope_scaling"])
        return [f"rope_parameters becomes rope_theta {theta} and {described}"]
    scaling = values.get("rope_scaling")
    if isinstance(scaling, Mapping) and "rope_type" not in scaling and "type" in scaling:
        # Version 4.55 takes the older key for some families only.
        values["rope_scaling"] = {**scaling, "rope_type": scaling["type"]}
        return ["rope_scaling's type becomes rope_type"]
    return []


def _flat_parameters(parameters: object) -> dict[str, Any] | None:
    """Return one set of parameters for all layers; None where there is none, or where layers differ."""
    if not isinstance(parameters, Mapping):
        return None
    nested = [value for value in parameters.values() if isinstance(value, Mapping)]
    if not nested:
        return dict(parameters)
    same = all(value == nested[0] for value in nested)
    return dict(nested[0]) if same and len(nested) == len(parameters) else None


def _scaling(parameters: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rope_scaling`` that means in version 4.55 what ``rope_parameters`` means in version 5."""
    scaling = dict(parameters)
    positions = config.get("max_position_embeddings")
    if scaling["rope_type"] in ("llama3", "yarn"):
        # Version 5 takes the model's own positions where the file has none (``standardize_rope_params``).
        original = config.get("original_max_position_embeddings") or positions
        scaling.setdefault("original_max_position_embeddings", original)
    if scaling["rope_type"] == "yarn" and isinstance(positions, int):
        original = scaling["original_max_position_embeddings"]
        if original == positions:
            # Version 4.55 uses the factor only where it does not know the original positions.
            del scaling["original_max_position_embeddings"]
        elif scaling.get("factor") is None and isinstance(original, int) and original > 0:
            scaling["factor"] = positions / original
    return scaling


def _describe_scaling(scaling: Mapping[str, Any] | None) -> str:
    if scaling is None:
        return "no rope_scaling"
    values = ", ".join(f"{key} {value}" for key, value in scaling.items() if not isinstance(value, list))
    return f"rope_scaling ({values})"


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _version() -> str:
    return catalog.image().versions["transformers"]
