"""What tests of several folders start: a preset with the simulated backend, and a rehearsal cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inf2kit.rehearsal.cloud import lifecycle
from inf2kit.rehearsal.cloud.settings import CloudSettings
from inf2kit.rehearsal.container import processes
from tests.helpers import packages
from tests.helpers.cloud import boto3_client
from tests.helpers.sagemaker import create_role
from tests.helpers.simulated_preset import write_preset


@pytest.fixture(scope="session")
def simulated_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A preset of one's own for the simulated backend, with eight rows."""
    return write_preset(tmp_path_factory.mktemp("presets") / "simulated.toml")


@pytest.fixture(scope="session")
def cloud(home: Path) -> Iterator[CloudSettings]:
    """A cloud whose minutes last one second; the end of the session checks that nothing is left of it."""
    settings = lifecycle.up(port=0, minute_s=1.0)
    boto3_client(settings, "s3").create_bucket(Bucket="models")
    create_role(boto3_client(settings, "iam"))
    yield settings
    lifecycle.down()
    log = settings.folder.with_suffix(".log").read_text(encoding="utf-8")
    assert processes.list_processes(settings.run_dir, nested=True) == []
    assert not settings.run_dir.exists()
    assert not settings.folder.exists()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def tokenizer_only(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's tokenizer with a very small Llama: enough for the simulated backend."""
    path = packages.link_files(
        weights, tmp_path_factory.mktemp("simulated") / "weights", ".safetensors", "config.json"
    )
    packages.write_small_model(path, vocabulary=49152)
    return path
