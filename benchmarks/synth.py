"""The time of a synth, compared with an app of one bucket, which shows CDK's own start."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import inf2kit
from benchmarks.report import Report, Row
from inf2kit import catalog, paths
from inf2kit.package import Manifest
from inf2kit.package.manifest import Entry

_MINIMAL_APP = """
import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
app = cdk.App(outdir="{out}")
s3.Bucket(cdk.Stack(app, "minimal"), "Bucket")
app.synth()
"""
_INF2KIT_APP = (
    'from infra.app import build_app; build_app({{"package": "{packages}"}}, outdir="{out}").synth()'
)


def measure_synth(report: Report, runs: int) -> None:
    """Measure one stack with a package, all stacks with theirs, and the smallest possible app."""
    names = [name for name in inf2kit.preset_names() if inf2kit.load_preset(name).compute.backend == "neuron"]
    packages = [_save_package(name) for name in names]
    scripts = {
        "a minimal app, one bucket": _MINIMAL_APP,
        "one endpoint": _INF2KIT_APP.replace("{packages}", packages[0]),
        f"{len(packages)} endpoints": _INF2KIT_APP.replace("{packages}", ",".join(packages)),
    }
    samples: dict[str, list[float]] = {name: [] for name in scripts}
    with (
        tempfile.TemporaryDirectory(prefix="inf2kit-") as folder,
        report.section("a synth of the stacks") as rows,
    ):
        for run in range(runs):
            for number, (name, script) in enumerate(scripts.items()):
                out = Path(folder) / f"{run}-{number}"
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-c", script.format(out=out)], check=True, capture_output=True
                )
                samples[name].append(time.perf_counter() - began)
        reference = samples["a minimal app, one bucket"]
        for name, seconds in samples.items():
            rows.append(Row(name, seconds, "s", against="minimal", reference=reference))


def _save_package(name: str) -> str:
    preset = inf2kit.load_preset(name)
    manifest = Manifest(
        inf2kit=inf2kit.__version__,
        preset=dataclasses.asdict(preset),
        revision=None,
        target="inf2",
        image_tag=catalog.image().tag,
        versions={},
        notice=None,
        files={"model.pt": Entry(13_500_000_000, "0" * 64)},
    )
    paths.save_manifest(manifest.digest, manifest.to_bytes())
    return f"s3://bench/models/{manifest.digest}/"
