"""The command that ``cdk`` runs: synthesize the app, or print one sentence that says what is wrong."""

from __future__ import annotations

import os
import re
import sys

from inf2kit.errors import DeploymentError, Inf2KitError

#: The oldest CDK command line that reads the assemblies of the pinned library.
_OLDEST_CLI = (2, 1148, 1)


def check_cli(version: str | None) -> None:
    """Check the version of the CDK command line, which fails without a clear reason if it is too old.

    Args:
        version: The value of ``$CDK_CLI_VERSION``; None if the app does not run under ``cdk``.

    Raises:
        DeploymentError: this command line cannot read the assembly.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:3])
    # 3.0.0 is older than 2.1148: it was published by accident.
    if numbers and (numbers[0] != _OLDEST_CLI[0] or numbers < _OLDEST_CLI):
        raise DeploymentError(
            f"this is cdk {version}, which cannot read this app; use the one that package.json pins: "
            "npm ci, then npx cdk (or 'make setup', then the cdk in .venv/bin)"
        )


def main() -> None:
    """Synthesize the app."""
    try:
        check_cli(os.environ.get("CDK_CLI_VERSION"))
        # Imported here because it takes seconds and starts Node; inf2kit.cdk says which extra is missing.
        import inf2kit.cdk  # noqa: F401
        from infra.app import build_app

        build_app(region=os.environ.get("CDK_DEFAULT_REGION")).synth()
    except (Inf2KitError, ImportError) as error:
        sys.exit(f"inf2kit: {error}")


if __name__ == "__main__":
    main()
