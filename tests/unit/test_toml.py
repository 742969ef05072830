"""What is written as TOML is read back as the same values."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import inf2kit
from inf2kit import toml
from inf2kit.toml import tomllib

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False), st.dates()
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
KEYS = TEXTS.filter(bool)
TABLE_NAMES = st.from_regex(r"[a-z0-9-]+", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(TABLE_NAMES, st.dictionaries(KEYS, VALUES)))
def test_values_and_tables_are_read_back(values: dict[str, Any], tables: dict[str, Any]) -> None:
    document = {**values, **tables}
    assert tomllib.loads(toml.dumps(document)) == document


def test_a_file_is_read(tmp_path: Path) -> None:
    document = {"date": dt.date(2026, 11, 26), "eu-west-1": {"ml.inf2.xlarge": 0.99}}
    (tmp_path / "prices.toml").write_text(toml.dumps(document), encoding="utf-8")
    assert toml.read(tmp_path / "prices.toml") == document
    assert (tmp_path / "prices.toml").read_text(encoding="utf-8") == (
        'date = 2026-11-26\n\n[eu-west-1]\n"ml.inf2.xlarge" = 0.99\n'
    )


def test_a_preset_that_ships_is_written_and_read_back(tmp_path: Path) -> None:
    preset = inf2kit.load_preset("llama2-7b-budget")
    path = tmp_path / "llama2-7b-budget.toml"
    path.write_text(toml.dumps(preset.to_dict()), encoding="utf-8")
    assert inf2kit.load_preset(str(path)) == preset
