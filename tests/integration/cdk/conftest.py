"""Stacks synthesized in this process, and the real cdk command beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

from inf2kit.names import stack_name
from infra.app import build_app
from tests.helpers.cdk import register_package


@pytest.fixture
def template(tmp_path: Path) -> Callable[..., Template]:
    """The template of a preset's stack, with context as people write it after -c."""

    def synthesize(
        preset: str = "llama2-7b-throughput", *, manifest: dict[str, Any] | None = None, **context: Any
    ) -> Template:
        settings = {"package": register_package(preset, **(manifest or {})), **context}
        app = build_app(settings, outdir=str(tmp_path / "cdk.out"))
        name = stack_name(preset, context.get("stage", ""))
        return Template.from_stack(app.node.find_child(name))  # type: ignore[arg-type]

    return synthesize
