"""What ``cdk`` runs: the app, or one sentence that says why not."""

from __future__ import annotations

import os
import re
import sys

from inf2kit.errors import DeploymentError, Inf2KitError

#: The oldest CLI that reads what the library writes.
_CLI = (2, 1148, 1)


def check_cli(version: str | None) -> None:
    """Refuse a CLI that cannot read the assembly, before it says something that nobody understands.

    Args:
        version: As the CLI gives it; None where no CLI runs the app.

    Raises:
        DeploymentError: it is the wrong one.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:3])
    # 3.0.0 is older than 2.1148: it was published by accident.
    if numbers and (numbers[0] != _CLI[0] or numbers < _CLI):
        raise DeploymentError(
            f"this is cdk {version}, which cannot read this app; use the one that package.json pins: "
            "npm ci, then npx cdk (or 'make setup', then the cdk in .venv/bin)"
        )


def main() -> None:
    """Synthesize."""
    try:
        check_cli(os.environ.get("CDK_CLI_VERSION"))
        # Imported here: it takes seconds, and starts Node.
        from infra.app import build

        build(region=os.environ.get("CDK_DEFAULT_REGION")).synth()
    except Inf2KitError as error:
        sys.exit(f"inf2kit: {error}")


if __name__ == "__main__":
    main()
