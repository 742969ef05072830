"""The group of all commands: its errors are one sentence, and its exit statuses those of Unix tools."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from inf2kit import paths
from inf2kit.cli import INTERRUPTED_STATUS, extras, signals, streams
from inf2kit.errors import Inf2KitError

#: Letters of the longest sentence that a help has of a command.
_SENTENCE = 200


class CommandGroup(click.Group):
    """A group whose help has the whole first sentence of each command."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        self._write_commands(formatter, "Commands", list(self.commands))

    def _write_commands(self, formatter: click.HelpFormatter, title: str, names: Sequence[str]) -> None:
        width = max(map(len, self.commands))  # the same for all sections
        with formatter.section(title):
            formatter.write_dl(
                [(name.ljust(width), self.commands[name].get_short_help_str(_SENTENCE)) for name in names]
            )


class Group(CommandGroup):
    """The group of all commands, in sections. Every error that a user can cause is one sentence."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands, which the help lists below a title."""
        self._sections[title] = [str(command.name) for command in commands]
        for command in commands:
            self.add_command(command)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, in their sections."""
        for title, names in self._sections.items():
            self._write_commands(formatter, title, names)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line, and end the process as Unix tools end unless ``standalone_mode`` is false."""

        def run() -> Any:
            return super(Group, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        return _run_to_exit(run) if standalone_mode else run()

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments; ``--help`` prints here."""
        with _sentences():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _sentences():
            return super().invoke(ctx)


@contextmanager
def _sentences() -> Iterator[None]:
    """Raise ClickException or OutputError in place of inf2kit's, the system's and AWS's errors."""
    try:
        yield
    except Inf2KitError as error:
        raise click.ClickException(str(error)) from None
    except ImportError as error:
        raise click.ClickException(extras.explain(error)) from None
    except OSError as error:
        raise click.ClickException(_describe(error)) from None
    except Exception as error:
        # Its modules are loaded only where it is called.
        if type(error).__module__.partition(".")[0] not in ("boto3", "botocore"):
            raise
        from inf2kit import aws

        try:
            with aws.translate_errors(Inf2KitError, "calling AWS"):
                raise
        except Inf2KitError as sentence:
            raise click.ClickException(str(sentence)) from None


def _describe(error: OSError) -> str:
    """Say which file, and what to try where it is in inf2kit's own folder."""
    sentence = f"{error.filename or 'a call of the system'}: {error.strerror or error}"
    try:
        home = str(paths.home())
    except Inf2KitError:
        return sentence
    if str(error.filename).startswith(home):
        return f"{sentence}; inf2kit keeps its files in {home}: set INF2KIT_HOME to a folder of yours"
    return sentence


def _run_to_exit(run: Callable[[], Any]) -> NoReturn:
    """Run the command line in this process, and exit with its status."""
    streams.prepare()
    try:
        with signals.exit_on_signals():
            status = _run(run)
            streams.check()
    except streams.OutputError as error:
        status = error.report()
    sys.exit(status)


def _run(run: Callable[[], Any]) -> int:
    """Run the command line, and return the exit status."""
    try:
        with signals.raise_interrupts():
            status = run()  # click returns the status of --help and of ctx.exit, and what the command returns
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            return INTERRUPTED_STATUS
        click.echo("Aborted!", err=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    return status if isinstance(status, int) else 0
