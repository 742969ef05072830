"""The code blocks of the pages about packages, plans and deployments, in the rehearsal cloud."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_iam as iam

from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers import packages
from tests.helpers.cdk import register_package
from tests.helpers.cloud import BIN, ROOT, shell_environment
from tests.helpers.documents import Block, blocks_to_run, replace_all, run_in_shell

#: Lets a page show what its commands print now.
SAVES = "INF2KIT_SAVE_DOCUMENTS"
#: What stands for a user's own names on the pages.
NAMES = {"s3://BUCKET": "s3://models", "--bucket BUCKET": "--bucket models", "PREFIX": "llm"}
ROLE_ARN = "arn:aws:iam::123456789012:role/inf2kit"


def blocks(page: str, language: str) -> list[Block]:
    """The blocks that this file has to run."""
    return blocks_to_run(__file__, page, language)


@pytest.fixture
def shell(cloud: CloudSettings, home: Path) -> dict[str, str]:
    """A user's shell after ``inf2kit cloud env``, with the aws command line."""
    environment = shell_environment(cloud, home)
    aws_cli = BIN.parent / "clients-aws" / "bin"
    return {**environment, "PATH": f"{environment['PATH']}{os.pathsep}{aws_cli}"}


@pytest.fixture
def fine_tune(weights: Path, tmp_path: Path) -> Path:
    """The fine-tune of docs/models.md, of the embedded model; what is not read takes no room on the disk."""
    folder = packages.link_files(
        weights,
        tmp_path / "my-fine-tune",
        ".safetensors",
        "config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    )
    write_bfloat16(next(weights.glob("*.safetensors")), folder / "model.safetensors")
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    theta = config.pop("rope_theta")
    config.pop("rope_scaling", None)
    config.pop("torch_dtype")
    rope = {"rope_theta": theta, "rope_type": "default"}
    changed = {"dtype": "bfloat16", "rope_parameters": rope, "transformers_version": "5.24.0"}
    packages.write_json(folder / "config.json", {**config, **changed})
    tokenizer = json.loads((weights / "tokenizer_config.json").read_text(encoding="utf-8"))
    packages.write_json(
        folder / "tokenizer_config.json", {**tokenizer, "tokenizer_class": "TokenizersBackend"}
    )
    (folder / "checkpoint-500").mkdir()
    sizes = {f"checkpoint-500/{number}": 181_111_111 for number in range(9)}
    for name, size in {**sizes, "training_args.bin": 5_400, "pytorch_model.bin": 269_100_000}.items():
        with (folder / name).open("wb") as file:
            file.truncate(size)
    return folder


def write_bfloat16(source: Path, target: Path) -> None:
    """Write weights of the same names and shapes with half the bytes, all zero."""
    with source.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    for name, tensor in header.items():
        if name != "__metadata__":
            tensor.update(dtype="BF16", data_offsets=[offset // 2 for offset in tensor["data_offsets"]])
    raw = json.dumps(header).encode()
    end = max(each["data_offsets"][1] for name, each in header.items() if name != "__metadata__")
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)


@pytest.mark.parametrize("page", ["docs/models.md", "docs/planning.md"])
def test_what_a_page_shows_is_what_is_printed(
    page: str, fine_tune: Path, shell: dict[str, str], tmp_path: Path
) -> None:
    """Three dots at the end of a page's output stand for lines that change with every release."""
    for block in blocks(page, "console"):
        for command, shown in block.commands:
            printed = run_in_shell(command, shell, tmp_path)
            if shown.endswith("\n...\n"):
                shown = shown.removesuffix("...\n")
                printed = printed[: len(shown)]
            if os.environ.get(SAVES) and printed != shown:
                path = ROOT / page
                path.write_text(path.read_text(encoding="utf-8").replace(shown, printed), encoding="utf-8")
            assert printed == shown, f"{block} shows something else; {SAVES}=1 with this test writes it"


def test_compiling(shell: dict[str, str], small_weights: Path, tmp_path: Path) -> None:
    """``load`` takes plain weights too, which here stand for a compiled package."""
    packages.write_small_model(tmp_path / "llama")
    for block in blocks("docs/compiling.md", "console"):
        for command, _ in block.commands:
            run_in_shell(command, shell, tmp_path)
    (block,) = blocks("docs/compiling.md", "python")
    code = block.code.replace("models/DIGEST", str(small_weights))
    assert run_in_shell(f"python -c '{code}'", shell, tmp_path).strip()


def test_doctor_and_cleanup(shell: dict[str, str], tmp_path: Path) -> None:
    """The question of cleanup is answered with no. Something is in the way, which makes the status 1."""
    names = {**NAMES, "--role ARN": f"--role {ROLE_ARN}"}
    for block in blocks("docs/doctor.md", "console"):
        for command, _ in block.commands:
            assert run_in_shell(replace_all(command, names), shell, tmp_path, stdin="n\n", statuses=(0, 1))


def test_the_job_s_role_and_a_bucket_s_rule(
    bootstrapped: Callable[..., Any], aws: Callable[..., Any], shell: dict[str, str], tmp_path: Path
) -> None:
    options = f"--require-approval never --ci --no-notices --output {tmp_path / 'cdk.out'}"
    names = {**NAMES, "cdk deploy": f"cdk deploy {options}", "=NAME": "=hub"}
    for block in blocks("docs/permissions.md", "console"):
        for command, _ in block.commands:
            run_in_shell(replace_all(command, names), shell, ROOT)
    assert aws("cloudformation").describe_stacks(StackName="inf2-compile-role")["Stacks"]
    for block in blocks("docs/deploying.md", "sh"):
        run_in_shell(replace_all(block.code, NAMES), shell, tmp_path)
    rules = aws("s3").get_bucket_lifecycle_configuration(Bucket="models")["Rules"]
    aws("s3").delete_bucket_lifecycle(Bucket="models")
    assert [rule["ID"] for rule in rules] == ["inf2kit-async", "inf2kit-data-capture"]


def test_deploying(shell: dict[str, str], small_weights: Path, home: Path, tmp_path: Path) -> None:
    """The handler is packaged, and the app of one's own is synthesized."""
    handler, app = blocks("docs/deploying.md", "python")
    (tmp_path / "my_inference.py").write_text(handler.code, encoding="utf-8")
    exec(compile(handler.code, handler.page, "exec"), {})  # noqa: S102
    package = f"inf2kit package {small_weights} --preset smollm2-135m-local --handler my_inference.py"
    assert run_in_shell(f"{package} --output packages", shell, tmp_path)
    role = f'iam.Role.from_role_arn(llama, "Caller", "{ROLE_ARN}")'
    uri = register_package("llama2-7b-throughput")
    code = replace_all(app.code, {"s3://BUCKET/models/DIGEST/": uri, "role_of_your_service": role})
    values: dict[str, Any] = {"iam": iam}
    exec(compile(code, app.page, "exec"), values)  # noqa: S102
    assert values["app"].synth().get_stack_by_name("llama")


def test_rehearsing(empty_home: Path, tmp_path: Path) -> None:
    """An endpoint at the published speed starts."""
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.defpath}",
        "HOME": str(tmp_path),
        "INF2KIT_HOME": str(empty_home),
    }
    for block in blocks("docs/rehearsing.md", "console"):
        for command, _ in block.commands:
            assert command.startswith("inf2kit local up "), "it is stopped again"
            name = command.split()[3]
            try:
                run_in_shell(command, environment, tmp_path)
            finally:
                run_in_shell(f"inf2kit local down {name}", environment, tmp_path)
