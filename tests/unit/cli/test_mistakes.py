"""Mistakes on the command line end with a sentence, never with a traceback."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from inf2kit.cli import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["presets", "show", "lama2-7b-latency"], "did you mean 'llama2-7b-latency'"),
        (["local", "up", "nothing.toml"], "cannot be read"),
        (["local", "up", "smollm2-135m-local", "--name", "a_b"], "cannot be an endpoint's name"),
        (["local", "logs", "nobody"], "there is no local endpoint 'nobody'"),
        (["generate", "nobody", "x", "--endpoint-url", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)
def test_every_mistake_ends_with_a_sentence(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit), "click ends the process; nothing escapes"
