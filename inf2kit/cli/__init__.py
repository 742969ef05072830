"""The command line. Every error is one sentence; a traceback is a bug."""

from __future__ import annotations

import os

#: Ctrl-C's status in a shell.
INTERRUPTED_STATUS = 130
try:
    import signal  # which imports enum and functools, more than all that comes before it
except KeyboardInterrupt:
    os._exit(INTERRUPTED_STATUS)


def main() -> None:
    """Run the command line.

    The commands take a while to import. Ctrl-C ends the process at once as long as no command runs, which is
    when there is nothing to stop or to say.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # what nohup ignores stays ignored
        signal.signal(signal.SIGINT, end_process)
    from inf2kit.cli import commands

    commands.main()


def end_process(*_: object) -> None:
    """End the process as Ctrl-C does."""
    os._exit(INTERRUPTED_STATUS)
