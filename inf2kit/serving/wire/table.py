"""The tables of docs/wire.md, written from the table of options.

Run ``python -m inf2kit.serving.wire.table docs/wire.md`` when an option changes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from inf2kit.serving.wire.honoured import OPTIONS
from inf2kit.serving.wire.option import NOTHING, Option, Refusal
from inf2kit.serving.wire.refused import PASSED, REFUSALS

_BEGIN, _END = "<!-- options: begin -->", "<!-- options: end -->"
_KEYS = {"tgi": "`inputs`", "chat": "`messages`", "completion": "`prompt`"}


def tables() -> str:
    """Return the tables as Markdown: what is honoured, refused and passed over."""
    lines = [
        "| option | values | Text Generation Inference | OpenAI | other names | what happens |",
        "|---|---|---|---|---|---|",
        *map(_option_row, OPTIONS),
        "",
        "Refused with a 422 that says what to use instead, unless the value asks for nothing: null, and "
        "where it does not say `only`, false or an empty text, list or object.",
        "",
        "| option | also passes | what to use instead |",
        "|---|---|---|",
        *map(_refusal_row, REFUSALS),
        "",
        f"Passed over, as they have no effect on the text: {', '.join(f'`{name}`' for name in PASSED)}.",
    ]
    return "\n".join(lines)


def put_in(document: str) -> str:
    """Return a document with the tables between its two markers."""
    before, _, rest = document.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{tables()}\n\n{_END}{after}"


def _option_row(option: Option) -> str:
    forms = "" if len(option.forms) == len(_KEYS) else f" ({', '.join(_KEYS[form] for form in option.forms)})"
    others = ", ".join(f"`{name}`" for name in option.others)
    cells = (
        f"`{option.name}`{forms}",
        option.kind.allowed.replace("|", "\\|"),
        f"`{option.tgi}`" if option.tgi else "",
        f"`{option.openai}`" if option.openai else "",
        others,
        option.does,
    )
    return f"| {' | '.join(cells)} |"


def _refusal_row(refusal: Refusal) -> str:
    forms = (
        "" if len(refusal.forms) == len(_KEYS) else f" ({', '.join(_KEYS[form] for form in refusal.forms)})"
    )
    nothing = {json.dumps(value) for value in NOTHING}
    values = [json.dumps(value) for value in refusal.neutral]
    is_strict = not nothing <= set(values)
    names = ", ".join(f"`{name}`" for name in refusal.names)
    also = " or ".join(f"`{value}`" for value in values if is_strict or value not in nothing)
    also = f"only {also}" if is_strict else also
    return f"| {names}{forms} | {also} | {refusal.reason} |"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(put_in(path.read_text(encoding="utf-8")), encoding="utf-8")
