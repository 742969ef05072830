"""What reviewers of templates say: cdk-nag, the CDK's own rules, cfn-lint, and a snapshot for people."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from cdk_nag import AwsSolutionsChecks

import inf2kit
from inf2kit.catalog import prices
from infra.app import build_app
from tests.helpers.cdk import NEURON_PRESETS, register_package

pytestmark = pytest.mark.usefixtures("home")

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
EVERYTHING = {
    "min_instances": "0",
    "max_instances": "4",
    "asynchronous": "true",
    "kms_key_arn": KEY,
    "subnet_ids": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "security_group_ids": "sg-0123456789abcdef0",
    "data_capture_percent": "10",
    "alarm_email": "ops@example.com",
    "environment": "INF2KIT_QUEUE_SIZE=64",
    "log_kms_key_arn": KEY,
    "package_kms_key_arn": KEY,
    "compile_output": "s3://models/llm",
    "compile_token_secret": "hub",
}
SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("context", [{}, EVERYTHING], ids=["default", "everything"])
def test_cdk_nag_and_the_cdks_own_rules_find_nothing_that_is_not_explained(
    context: dict[str, str], tmp_path: Path
) -> None:
    packages = ",".join(register_package(name) for name in NEURON_PRESETS)
    app = build_app({"package": packages, **context}, outdir=str(tmp_path))
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app, verbose=True))
    assert find_violations(app) == []


def test_a_stack_without_a_package_breaks_none_of_the_cdks_own_rules(tmp_path: Path) -> None:
    """It has no resources, which is explained: ``cdk ls`` prints no warning about each preset."""
    assert find_violations(build_app({}, outdir=str(tmp_path))) == []


def find_violations(app: cdk.App) -> list[dict[str, Any]]:
    """Synthesize with the CDK's own rules, and return what breaks a rule of any plugin."""
    cdk.Validations.of(app).add_plugins(cdk.CloudFormationValidatePlugin())
    folder = Path(app.synth().directory)
    report = json.loads((folder / "validation-report.json").read_text(encoding="utf-8"))
    return [violation for plugin in report["pluginReports"] for violation in plugin["violations"]]


def test_cfn_lint_is_clean(template: Callable[..., Template], tmp_path: Path) -> None:
    files = []
    for name, context in {
        "default": {},
        "everything": EVERYTHING,
        "fleet": {"min_instances": "4", "max_instances": "8", "rollout": "rolling", "rollback": "false"},
    }.items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(template(**context).to_json()), encoding="utf-8")
    role = build_app({"compile_output": "s3://models/llm"}, outdir=str(tmp_path / "role"))
    role_stack = role.node.find_child("inf2-compile-role")
    files.append(tmp_path / "role.json")
    files[-1].write_text(json.dumps(Template.from_stack(role_stack).to_json()), encoding="utf-8")  # type: ignore[arg-type]
    lint = Path(sys.executable).with_name("cfn-lint")
    # W8003 is about CDK's own condition; the region is any that has the instances.
    result = subprocess.run(
        [lint, "--regions", "us-east-1", "--", *files], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(("name", "context"), [("default", {}), ("everything", EVERYTHING)])
def test_the_template_is_the_one_that_was_reviewed(
    template: Callable[..., Template], name: str, context: dict[str, Any]
) -> None:
    """INF2KIT_UPDATE_SNAPSHOTS=1 writes it anew; the change is then reviewed as a diff."""
    rendered = json.dumps(template(**context).to_json(), indent=1, sort_keys=True) + "\n"
    # Hashes of assets and packages change with every version and mean nothing to a reader.
    rendered = re.sub(r"\b[0-9a-f]{64}\b", "ASSET", re.sub(r"[0-9a-f]{32}", "DIGEST", rendered))
    path = SNAPSHOTS / f"{name}.json"
    if os.environ.get("INF2KIT_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered, encoding="utf-8")
    assert rendered == path.read_text(encoding="utf-8"), "see the test's own words on how to update"


def test_every_preset_has_a_price() -> None:
    for name in NEURON_PRESETS:
        assert prices.shipped().find(inf2kit.load_preset(name).compute.instance_type)
