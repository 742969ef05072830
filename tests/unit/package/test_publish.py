"""Publishing sends what the store lacks, and its command explains bad arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit.cli.commands import main
from inf2kit.package import collect, open_store, publish, verify
from tests.helpers import packages

LOCAL = inf2kit.load_preset("smollm2-135m-local")
NEURON = inf2kit.load_preset("llama2-7b-budget")


def test_publishing_twice_writes_once_and_a_changed_line_of_code_copies_the_weights(
    weights: Path, tmp_path: Path
) -> None:
    store, contents = open_store(str(tmp_path / "out")), collect(LOCAL, weights)
    first = packages.publish(contents, store)
    assert set(first.sent) == set(contents.files)
    assert publish.plan(contents, store).is_published
    assert verify(store, first.digest).digest == first.digest

    again = packages.publish(packages.with_changed_code(contents, tmp_path), store)
    assert again.digest != first.digest
    assert set(again.copied) == {name for name in contents.files if name.endswith(".safetensors")}
    assert (
        again.bytes_sent
        == sum(entry.size for name, entry in contents.manifest.files.items() if name not in again.copied) + 1
    )
    assert verify(store, again.digest).size > again.bytes_copied


def test_a_damaged_earlier_package_is_not_copied_from(weights: Path, tmp_path: Path) -> None:
    store, contents = open_store(str(tmp_path / "out")), collect(LOCAL, weights)
    first = packages.publish(contents, store)
    (tmp_path / "out" / first.digest / "model-00001-of-00002.safetensors").unlink()
    again = packages.publish(packages.with_changed_code(contents, tmp_path), store)
    assert list(again.copied) == ["model-00002-of-00002.safetensors"]
    verify(store, again.digest)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["package", "nowhere", "--preset", LOCAL.name, "--output", "{tmp}/out"],
            "nowhere is not a directory",
        ),
        (
            ["package", "{tmp}/weights", "--preset", "llama", "--output", "{tmp}/out"],
            "there is no preset 'llama'",
        ),
        (
            ["package", "{tmp}/weights", "--preset", NEURON.name, "--output", "{tmp}/out"],
            "lacks neuron_config.json",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "{tmp}/weights/config.json"],
            "cannot be written to",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "gs://bucket/x"],
            "is no place for packages",
        ),
        (
            ["package", "{tmp}/weights", "--preset", LOCAL.name, "--output", "{tmp}/weights/out"],
            "lies inside",
        ),
        (["packages", "verify", "{tmp}/weights"], "does not end in a package's digest"),
        (["packages", "verify", "{tmp}/" + 32 * "0"], "holds no manifest"),
    ],
)
def test_bad_arguments_are_one_sentence(
    weights: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    result = CliRunner().invoke(main, [argument.format(tmp=tmp_path) for argument in arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
