"""Why a file of results cannot be read, in words."""

from __future__ import annotations

import json


def problem(error: Exception) -> str:
    """Say what is wrong with a JSON file that has another form than expected.

    Args:
        error: What reading it raised: an OSError, ValueError, KeyError or TypeError.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, TypeError):
        return "its values have another form"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error}"
    return str(error)
