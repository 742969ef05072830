"""Patterns and values of metric filters."""

from __future__ import annotations

import json

import pytest

from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import compile_pattern, metric_value
from inf2kit.rehearsal.cloud.errors import AwsError

LOAD = json.dumps({"inf2kit": "load", "texts": 3.5, "engine": {"rows": 8}})


@pytest.mark.parametrize(
    ("pattern", "line", "matches"),
    [
        ("", "anything", True),
        ('"the engine ended"', "inf2kit supervisor: the engine ended with code -9", True),
        ('"the engine ended"', "the engine has ended", False),
        ('"the engine ended" -planned', "the engine ended, planned", False),
        ("ERROR engine", "engine: ERROR", True),
        ("ERROR engine", "ERROR", False),
        ("?ERROR ?WARNING", "WARNING", True),
        (r'"a \"word\""', 'a "word"', True),
        ('{ $.inf2kit = "load" }', LOAD, True),
        ('{ $.inf2kit = "lo*" }', LOAD, True),
        ('{ $.inf2kit = "other" }', LOAD, False),
        ('{ $.inf2kit != "other" }', LOAD, True),
        ('{ $.inf2kit = "load" && $.texts > 3 }', LOAD, True),
        ('{ $.inf2kit = "load" && $.texts > 4 }', LOAD, False),
        ("{ $.texts > 4 || $.engine.rows >= 8 }", LOAD, True),
        ("{ $.texts = 3.5 }", LOAD, True),
        ('{ $.nothing != "load" }', LOAD, False),
        ('{ $.inf2kit = "load" }', "no JSON", False),
        ('{ $.inf2kit = "load" }', "[1]", False),
    ],
)
def test_patterns(pattern: str, line: str, matches: bool) -> None:
    assert compile_pattern(pattern)(line) is matches


@pytest.mark.parametrize(
    "pattern", ["[ip, user]", "{ $.a IS NULL }", "{ ($.a = 1) }", "%regex%", '{ $.a > "b" }']
)
def test_a_pattern_that_is_not_simulated_is_refused(pattern: str) -> None:
    with pytest.raises(AwsError, match="is not read in this rehearsal"):
        compile_pattern(pattern)


def test_values() -> None:
    assert metric_value("line", "2") == 2
    assert metric_value(LOAD, "$.texts") == 3.5
    assert metric_value(LOAD, "$.engine.rows") == 8
    assert metric_value(LOAD, "$.inf2kit") is None
    assert metric_value(LOAD, "$.nothing") is None
