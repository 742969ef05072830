"""All commands, in the sections of the help."""

from __future__ import annotations

import click

import inf2kit
from inf2kit.cli.batch import batch
from inf2kit.cli.bench import bench
from inf2kit.cli.chat import chat
from inf2kit.cli.cleanup import cleanup
from inf2kit.cli.cloud import cloud
from inf2kit.cli.compile import compile_
from inf2kit.cli.demo import demo
from inf2kit.cli.doctor import doctor
from inf2kit.cli.generate import generate
from inf2kit.cli.group import Group
from inf2kit.cli.local import local
from inf2kit.cli.package import package
from inf2kit.cli.packages import packages
from inf2kit.cli.plan import plan
from inf2kit.cli.presets import presets
from inf2kit.cli.prices import prices
from inf2kit.cli.verify import verify_device


@click.group(
    "inf2kit", cls=Group, epilog="Begin with 'inf2kit demo'; with an AWS account, with 'inf2kit doctor'."
)
@click.version_option(inf2kit.__version__, package_name="inf2kit")
def main() -> None:
    """Llama text generation on AWS Inferentia2, rehearsed on this machine."""


main.add_section("Begin", demo, doctor, presets)
main.add_section("Rehearse on this machine", local, cloud)
main.add_section("Deploy", compile_, package, packages, cleanup)
main.add_section("Call an endpoint", generate, chat, batch)
main.add_section("Measure and plan", bench, plan, prices, verify_device)
