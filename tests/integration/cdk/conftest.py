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


@pytest.fixture(scope="session")
def _templates() -> dict[str, Template]:
    """The templates by what they were synthesized from: most tests look at the same few."""
    return {}


@pytest.fixture
def template(_templates: dict[str, Template], tmp_path: Path) -> Callable[..., Template]:
    """The template of a preset's stack, with context as people write it after -c.

    ``anew`` synthesizes it again, where something else than the arguments has changed.
    """

    def synthesize(
        preset: str = "llama2-7b-throughput",
        *,
        manifest: dict[str, Any] | None = None,
        anew: bool = False,
        **context: Any,
    ) -> Template:
        key = repr((preset, manifest, sorted(context.items())))
        if not anew and key in _templates:
            return _templates[key]
        settings = {"package": register_package(preset, **(manifest or {})), **context}
        app = build_app(settings, outdir=str(tmp_path / "cdk.out"))
        name = stack_name(preset, context.get("stage", ""))
        rendered = Template.from_stack(app.node.find_child(name))  # type: ignore[arg-type]
        return rendered if anew else _templates.setdefault(key, rendered)

    return synthesize
