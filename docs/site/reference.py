"""The pages of the reference, made from what the code itself uses: docstrings, presets, metrics, alarms."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import inf2kit
from inf2kit import errors
from inf2kit.serving.engine.metrics import EngineMetrics, GatewayMetrics

#: The names of ``inf2kit`` on the page of the SDK; the errors have a page of their own.
_GROUPS = {
    "Calls": ["Endpoint", "AsyncEndpoint", "TextResult", "Timings", "TextStream", "AsyncTextStream"],
    "Many calls": ["Retry", "Progress"],
    "Asynchronous calls": ["Job", "AsyncJob"],
    "Without an endpoint": ["load", "Model"],
    "Presets": ["load_preset", "preset_names", "Preset"],
}


def write(folder: Path) -> None:
    """Write all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "sdk": sdk(),
        "errors": error_page(),
        "cdk": cdk(),
        "handler": handler(),
        "cli": cli(),
        "presets": presets(),
        "metrics": metrics(),
        "alarms": alarms(),
    }.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def sdk() -> str:
    """What ``inf2kit`` exports."""
    kinds = {name for name in inf2kit.__all__ if name in vars(errors)}
    grouped = {name for names in _GROUPS.values() for name in names}
    if missing := set(inf2kit.__all__) - kinds - grouped - {"__version__"}:
        sys.exit(f"docs/site/reference.py: {sorted(missing)} have no group on the page of the SDK; add them")
    parts = [
        "# The SDK",
        "Everything that `inf2kit` exports, by its docstrings. [Calling an endpoint](../docs/client.md) shows how "
        "it is used; the errors are [on a page of their own](errors.md).",
    ]
    for title, names in _GROUPS.items():
        parts += [f"## {title}", *(_directive(f"inf2kit.{name}") for name in names)]
    return _page(parts)


def error_page() -> str:
    """The tree of errors, and each of them."""
    tree = (errors.__doc__ or "").split("\n\n")[1]
    names = [name for name in re.findall(r"\w+Error", tree) if hasattr(inf2kit, name)]
    if missing := {name for name in inf2kit.__all__ if name in vars(errors)} - set(names):
        sys.exit(f"inf2kit/errors.py: {sorted(missing)} are not in the tree of its docstring; add them")
    return _page(
        [
            "# Errors",
            "All errors of inf2kit, which `inf2kit` exports. The message of each is a sentence that says where, "
            "what and what to try. Elsewhere: [what the client does](../docs/client.md#errors) when a call fails, and "
            "[what the container answers](../docs/wire.md#errors).",
            f"```text\n{re.sub('^    ', '', tree, flags=re.MULTILINE)}\n```",
            *(_directive(f"inf2kit.{name}") for name in dict.fromkeys(names)),
        ]
    )


def cdk() -> str:
    """The two ways to deploy from Python."""
    import inf2kit.cdk

    return _page(
        [
            "# Deploying from Python",
            "The constructs of `inf2kit.cdk`, and the same endpoint by the SageMaker SDK. "
            "[Deploying](../docs/deploying.md#an-app-of-your-own) has an app of your own.",
            "## The constructs",
            *(
                _directive(f"inf2kit.cdk.{name}")
                for name in inf2kit.cdk.__all__
                if name not in inf2kit.__all__
            ),
            "## The SageMaker SDK",
            *(_directive(f"inf2kit.sagemaker.{name}") for name in ("deploy", "Deployment")),
        ]
    )


def handler() -> str:
    """The hooks of a handler."""
    names = ("model_fn", "input_fn", "predict_fn", "output_fn", "Model")
    return _page(
        [
            "# A handler's hooks",
            "What SageMaker's toolkit calls in the container, for an `inference.py` "
            "[of your own](../docs/deploying.md#a-handler-of-your-own).",
            *(_directive(f"inf2kit.serving.worker.{name}") for name in names),
        ]
    )


def cli() -> str:
    """Every command, by its own help."""
    return _page(
        [
            "# Commands",
            "Every command of `inf2kit` and its options, as `--help` prints them.",
            "```{eval-rst}\n.. click:: inf2kit.cli.commands:main\n   :prog: inf2kit\n   :nested: full\n```",
        ]
    )


def presets() -> str:
    """A table of the presets, and what their keys mean."""
    rows = []
    for name in inf2kit.preset_names():
        preset = inf2kit.load_preset(name)
        compute, shapes = preset.compute, preset.shapes
        rows.append(
            [
                f"`{name}`",
                f"`{preset.model.id}`{' (gated)' if preset.model.gated else ''}",
                f"`{compute.instance_type}`",
                compute.tensor_parallel_size * compute.data_parallel_size,
                compute.data_parallel_size,
                shapes.batch_size,
                f"{shapes.sequence_length:,}",
                preset.status,
            ]
        )
    head = ["preset", "model", "instance", "cores", "engines", "rows of each", "tokens of a row", "status"]
    return _page(
        [
            "# Presets",
            "The presets of this release, and the keys of one of your own. Rows are the texts that an engine "
            "generates at the same time. `inf2kit presets show NAME` prints a preset, `inf2kit presets check` says "
            "whether they fit.",
            _table(head, rows),
            "## What they are for",
            _table(
                ["preset", ""],
                [[f"`{name}`", inf2kit.load_preset(name).description] for name in inf2kit.preset_names()],
            ),
            "## Keys",
            *(
                _directive(f"inf2kit.presets.schema.{name}")
                for name in ("Model", "Compute", "Serving", "Compile")
            ),
            _directive("inf2kit.serving.shapes.StaticShapes"),
        ]
    )


def metrics() -> str:
    """What ``/metrics`` of a container has."""
    rows: list[list[Any]] = []
    for who, registry in (("gateway", GatewayMetrics()._registry), ("engine", EngineMetrics()._registry)):
        for collector in registry.collect():
            unit = "_total" if collector.type == "counter" else ""
            labels = ", ".join(f"`{label}`" for label in _labels(registry, collector.name))
            rows.append([f"`{collector.name}{unit}`", collector.type, labels, collector.documentation, who])
    return _page(
        [
            "# Metrics",
            "What a container answers at `/metrics`, in Prometheus' text format, as it is registered in the "
            "code. SageMaker passes no such call on, so it is for local endpoints, and for containers that you "
            "reach yourself. "
            "[The alarms](alarms.md) use CloudWatch's metrics and the container's log.",
            _table(["metric", "kind", "labels", "what it is", "of the"], rows),
        ]
    )


def alarms() -> str:
    """The alarms of a synthesized stack."""
    import aws_cdk
    from aws_cdk.assertions import Template

    from inf2kit.cdk import DeployedPackage, EndpointProps, EndpointStack
    from tests.helpers.cdk import register_package

    name = "llama2-7b-fleet"
    with TemporaryDirectory() as home:
        before = os.environ.get("INF2KIT_HOME")
        os.environ["INF2KIT_HOME"] = home
        try:
            package = DeployedPackage.from_uri(register_package(name))
        finally:
            os.environ.pop("INF2KIT_HOME")
            if before is not None:
                os.environ["INF2KIT_HOME"] = before
        app = aws_cdk.App(outdir=str(Path(home) / "cdk.out"))
        props = EndpointProps(preset=inf2kit.load_preset(name), package=package)
        template = Template.from_stack(EndpointStack(app, "llama", props=props))
    resources = template.find_resources("AWS::CloudWatch::Alarm").values()
    rows = [
        [
            f"`{_plain(each['Properties']['AlarmName']).rpartition('-')[2]}`",
            each["Properties"]["AlarmDescription"],
        ]
        for each in resources
    ]
    return _page(
        [
            "# Alarms",
            f"The alarms of a stack, with the descriptions that CloudWatch sends; these are of `{name}`. "
            "[Deploying](../docs/deploying.md#alarms) says when each rings, and which roll an update back.",
            _table(["alarm", "what it says"], rows),
        ]
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "".join(str(part) for part in value["Fn::Join"][1])


def _labels(registry: Any, name: str) -> Sequence[str]:
    collectors = registry._names_to_collectors
    return getattr(collectors.get(name) or collectors[f"{name}_total"], "_labelnames", ())


def _directive(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    value = getattr(__import__(module, fromlist=[attribute]), attribute)
    if not isinstance(value, type):
        return f"```{{eval-rst}}\n.. autofunction:: {name}\n```"
    options = "   :members:\n   :inherited-members: Exception, object, tuple\n"
    if issubclass(value, Exception):
        options = "   :show-inheritance:\n"
    return f"```{{eval-rst}}\n.. autoclass:: {name}\n{options}```"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
