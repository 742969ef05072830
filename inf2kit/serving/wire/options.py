"""The table of options: what a request may ask for, by every name that clients have for it.

An option is honoured, or refused unless its value asks for nothing, or passed over because it has no effect
on the text. The tables of docs/wire.md are written from here.
"""

from __future__ import annotations

from inf2kit.serving.wire.honoured import OPTIONS
from inf2kit.serving.wire.option import FORMS, Form, Option, Refusal
from inf2kit.serving.wire.refused import PASSED, REFUSALS

Entry = Option | Refusal | None


def _table(form: Form) -> dict[str, Entry]:
    table: dict[str, Entry] = dict.fromkeys(PASSED)
    for refusal in REFUSALS:
        if form in refusal.forms:
            table.update(dict.fromkeys(refusal.names, refusal))
    # An option of another schema is refused in this one, by a name that this one does not have.
    for option in OPTIONS:
        if form not in option.forms:
            elsewhere = Refusal(option.names, option.elsewhere, option.neutral)
            for name in option.names:
                table.setdefault(name, elsewhere)
    for option in OPTIONS:
        if form in option.forms:
            table.update(dict.fromkeys(option.names, option))
    return table


#: The entry of each key, for each form; None if the key is passed over.
TABLES: dict[Form, dict[str, Entry]] = {form: _table(form) for form in FORMS}
#: Names that a misspelled one is compared with.
HONOURED: tuple[str, ...] = (
    "parameters",
    *dict.fromkeys(name for option in OPTIONS for name in option.names),
)
