"""What a command needs beyond the core of inf2kit: the extras of its wheel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from inf2kit.extras import install_command, is_installed, normalise, requirements

#: Modules whose distribution has another name.
_DISTRIBUTIONS = {"mms": "multi-model-server", "cfnlint": "cfn-lint", "pkg_resources": "setuptools"}


@contextmanager
def needs(*extras: str) -> Iterator[None]:
    """Say which extras are missing, where a module or distribution is not installed.

    Also a decorator of commands::

        @local.command("up")
        @needs("local")
        def local_up() -> None: ...

    Args:
        *extras: All that the command needs.

    Raises:
        click.ClickException: in place of an ImportError.
    """
    try:
        yield
    except ImportError as error:
        if _is_own(error):
            raise
        missing = [extra for extra in extras if not is_installed(extra)] or list(extras)
        raise click.ClickException(_sentence(error, missing)) from None


def explain(error: ImportError) -> str:
    """Return a sentence on a module that a command needs and does not say so."""
    if _is_own(error):
        raise error
    name = normalise(_DISTRIBUTIONS.get(str(error.name).partition(".")[0], str(error.name).partition(".")[0]))
    return _sentence(error, [extra for extra, names in requirements().items() if name in names][:1])


def _sentence(error: ImportError, extras: list[str]) -> str:
    command = click.get_current_context().command_path
    if isinstance(error, ModuleNotFoundError):
        problem = f"{error.name!r}, which is not installed"
    else:
        problem = f"{error.name or 'a module'!r}, which cannot be imported ({error})"
    install = install_command(*extras) if extras else f"pip install '{error.name}'"
    return f"{command!r} needs {problem}; run: {install}"


def _is_own(error: ImportError) -> bool:
    """Whether it is a mistake of inf2kit, and no missing distribution."""
    return str(error.name).partition(".")[0] == "inf2kit"
