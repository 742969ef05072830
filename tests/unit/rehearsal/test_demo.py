"""``inf2kit demo``: its commands show their progress, and what goes wrong with its calls is a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from inf2kit.errors import EndpointError
from inf2kit.rehearsal.demo import call_endpoint
from tests.helpers.recording_aws import recording_aws


def test_a_refused_call_is_a_sentence() -> None:
    with recording_aws() as aws:
        session = boto3.session.Session("KEY", "secret", region_name="us-east-1")
        client = session.client("sagemaker-runtime", endpoint_url=aws.url)
        with pytest.raises(EndpointError, match="endpoint 'mine' answered: no"):
            call_endpoint(client, "mine")


#: A command that says what it does, and ends when a file is there.
SLOW = """
import pathlib, sys, time
print("stack | 0/26 | CREATE_IN_PROGRESS | AWS::SNS::Topic | Alarms", file=sys.stderr)
print("stack | 1/26 | CREATE_IN_PROGRESS | AWS::SageMaker::Endpoint | Endpoint", file=sys.stderr, flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("its output")
"""
DEMO = """
import os, pathlib, sys
from inf2kit.rehearsal import demo
words = (sys.executable, "-c", sys.argv[1], sys.argv[2])
print([demo._run_command(demo._Steps(), words, pathlib.Path(), dict(os.environ))], flush=True)
"""


def test_a_command_shows_its_progress_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "go"
    demo = subprocess.Popen(
        [sys.executable, "-c", DEMO, SLOW, str(file)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert demo.stdout
    try:
        lines = iter(demo.stdout.readline, "")
        assert "AWS::SageMaker::Endpoint" in next(line for line in lines if line.startswith("  stack"))
        file.touch()
        assert next(lines) == "['its output\\n']\n"
    finally:
        file.touch()
        demo.communicate()
