"""Context that is not meant for this app: the CDK's own, and that of a company or of other apps.

It comes from ``~/.cdk.json``, ``cdk.context.json`` and the command line. Passing it over must not hide a
misspelt option, since an endpoint would then be deployed without it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: In the keys of the CDK's libraries, its look-ups and most companies (``vpc-provider:account=1``).
_NAMESPACE = re.compile(r"[@:/]")
#: Plain keys of the CDK's command line.
_CDK_KEYS = ("acknowledged-issue-numbers", "cli-telemetry", "tree")
#: The likeness of two names, 0 to 1, from which one is a misspelling of the other.
_LIKE = 0.8


def is_foreign(key: str, value: Any, own: Iterable[str]) -> bool:
    """Whether a key of the context is none of this app's, and not a misspelling of one either.

    Args:
        key: A key that is none of ``own``.
        value: Its value. Options of a preset that does not exist are this app's.
        own: The keys of this app.
    """
    # Written with the product's name, a key can only be meant for it.
    meant = re.sub(r"^inf2kit[:/.]", "", key)
    if meant == key and _NAMESPACE.search(key):
        return True
    plain = {_plain(name) for name in own}
    if isinstance(value, Mapping) and any(_plain(str(name)) in plain for name in value):
        return False
    return not difflib.get_close_matches(_plain(meant), plain, n=1, cutoff=_LIKE)


def is_worth_a_note(key: str) -> bool:
    """Whether somebody may have meant a foreign key for this app: it has no namespace and is not cdk's."""
    return _NAMESPACE.search(key) is None and key not in _CDK_KEYS


def _plain(name: str) -> str:
    """A name without its case and separators, in which ``maxInstances`` is ``max_instances``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
