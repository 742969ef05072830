"""Every option of the stacks: deployed, updated to and from, and destroyed.

A few stacks go side by side, and each goes from one set of options to the next; so whatever a template looks
like, the services have taken it, and its change from what was there before.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import wait_until

import inf2kit
from infra.app import build
from infra.props import EndpointProps

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
LARGER = "ml.inf2.8xlarge"
SCALED = {"max_instances": "2", "target_concurrency": "2"}
ASYNCHRONOUS = {"asynchronous": "true", "async_output": "s3://models/answers/", "async_deadline_s": "1800"}
#: What a preset's stack goes through; it begins and ends without an option.
WAYS: dict[str, list[dict[str, str]]] = {
    "tinyllama-1.1b-starter": [
        SCALED,
        {**SCALED, "scale_out_cooldown_s": "30", "scale_in_cooldown_s": "600"},
        # Another type of instance is taken only while no scalable target is registered, there and back.
        {"scalable": "false"},
        {"scalable": "false", "instance_type": LARGER},
        {"instance_type": LARGER},
        {"scalable": "false", "instance_type": LARGER},
        {"scalable": "false"},
    ],
    "llama2-7b-throughput": [
        {"environment": "INF2KIT_QUEUE_SIZE=16", "volume_gb": "100"},
        {"startup_timeout_s": "3600", "download_timeout_s": "3600", "network_isolation": "false"},
        {"rollback": "false", "subnet_ids": "subnet-11111111", "security_group_ids": "sg-11111111"},
        {"min_instances": "2", "max_instances": "2"},
        {"min_instances": "2", "max_instances": "2", "rollout": "canary", "idle_hours": "4"},
    ],
    "llama2-7b-latency": [
        ASYNCHRONOUS,
        {**ASYNCHRONOUS, "min_instances": "0", "max_instances": "2"},
        {"endpoint_name": "renamed"},
    ],
    "llama2-7b-budget": [
        {"kms_key_arn": KEY, "package_kms_key_arn": KEY, "bucket_owner": "123456789012"},
        {"data_capture_percent": "10", "data_capture_output": "s3://models/captured/"},
        {"alarm_email": "me@example.com", "max_errors_per_minute": "9", "max_errors_percent": "9"},
        {"log_retention_days": "7", "log_removal": "retain"},
    ],
}
#: Of CDK's engine there is one in a process, and it takes one call at a time.
_SYNTHESIS = threading.Lock()
#: A stage is a stack of another name, so it is there from the first deployment on.
FIRST: dict[str, dict[str, str]] = {
    "llama2-7b-budget": {"log_kms_key_arn": KEY, "stage": "dev"},
}


def test_every_option_has_a_way() -> None:
    options = {each.name for each in dataclasses.fields(EndpointProps)} - {"preset", "package"}
    tried = {name for way in (*WAYS.values(), FIRST.values()) for context in way for name in context}
    assert tried == options


class Way:
    """One preset's stack on its way."""

    def __init__(self, cloudformation: Any, folder: Path, preset: str, package: str) -> None:
        self._client, self._folder, self._preset, self._package = cloudformation, folder, preset, package
        self._made = ""

    def go(self) -> list[str]:
        """What went wrong; each step that worked is followed by the next."""
        faults = []
        first = FIRST.get(self._preset, {})
        stage = {"stage": first["stage"]} if "stage" in first else {}
        for context in ({**first}, *WAYS[self._preset], {}):
            status = self._deploy({**stage, **context})
            if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                faults.append(f"{self._preset} {context}: {status}: {self._reasons()}")
                break
        self._client.delete_stack(StackName=self._made)
        status = self._settled()
        return faults if status == "DELETE_COMPLETE" else [*faults, f"{self._preset}: {status}"]

    def _deploy(self, context: dict[str, str]) -> str:
        name = f"inf2-{inf2kit.load_preset(self._preset).endpoint_name}"
        name += f"-{context['stage']}" if "stage" in context else ""
        outdir = self._folder / f"{self._preset}-{len(list(self._folder.iterdir()))}"
        with _SYNTHESIS:
            build({"package": self._package, **context}, outdir=str(outdir)).synth()
        body = (outdir / f"{name}.template.json").read_text(encoding="utf-8")
        make = self._client.update_stack if self._made else self._client.create_stack
        answer = make(
            StackName=name,
            TemplateBody=json.dumps(json.loads(body)),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        self._made = answer["StackId"]
        return self._settled()

    def _settled(self) -> str:
        def look() -> str | None:
            (stack,) = self._client.describe_stacks(StackName=self._made)["Stacks"]
            status = str(stack["StackStatus"])
            return None if status.endswith("_IN_PROGRESS") else status

        return str(wait_until(look, 400, f"{self._preset} has settled"))

    def _reasons(self) -> list[str]:
        events = self._client.describe_stack_events(StackName=self._made)["StackEvents"]
        return [each["ResourceStatusReason"] for each in events if each["ResourceStatus"].endswith("_FAILED")]


@pytest.mark.timeout(1200)
def test_every_option_is_deployed_updated_and_destroyed(
    bootstrapped: Callable[..., Any],
    aws: Callable[..., Any],
    package: Callable[..., str],
    tmp_path: Path,
) -> None:
    (tmp_path / "apps").mkdir()
    ways = [Way(aws("cloudformation"), tmp_path / "apps", preset, package(preset)) for preset in WAYS]
    with ThreadPoolExecutor(len(ways)) as side_by_side:
        faults = [fault for result in side_by_side.map(Way.go, ways) for fault in result]
    assert faults == []
    assert aws("sagemaker").list_endpoints()["Endpoints"] == []
    assert aws("logs").describe_log_groups()["logGroups"] == [], "each with its stack"
