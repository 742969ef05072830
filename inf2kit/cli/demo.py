"""``inf2kit demo``: the whole rehearsal."""

from __future__ import annotations

import click

from inf2kit.cli.extras import needs
from inf2kit.cli.output import step_printer


@click.command(short_help="Rehearse a whole deployment, from the cloud to calls.")
@click.option("--quick", is_flag=True, help="Only a local endpoint, without the CDK.")
def demo(quick: bool) -> None:
    """Rehearse everything: a cloud, a package, cdk deploy, four ways to call the endpoint, cdk destroy."""
    with needs("local") if quick else needs("local", "infra", "cloud"):
        from inf2kit.rehearsal import demo as rehearsal

        run = rehearsal.run_quick if quick else rehearsal.run
        run(step_printer())
