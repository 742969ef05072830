"""What earlier rehearsals have left on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from inf2kit.doctor.finding import Finding, NotCheckedError, advice, ok
from inf2kit.doctor.surroundings import Surroundings
from inf2kit.extras import install_command
from inf2kit.inventory import machine


def on_this_machine(_: Surroundings) -> Iterator[Finding]:
    """Local endpoints, the rehearsal cloud, and what has ended without cleaning up."""
    try:
        leftovers = machine.scan_machine()
    except ImportError as error:
        if machine.has_traces():
            raise NotCheckedError(
                f"there are folders of local endpoints, and {error.name!r} is not installed",
                install_command("local"),
            ) from None
        leftovers = []
    dead = [leftover for leftover in leftovers if not leftover.running]
    running = [leftover for leftover in leftovers if leftover.running]
    if dead:
        names = ", ".join(f"{leftover.label} ({leftover.status})" for leftover in dead)
        yield advice(f"left by earlier runs: {names}", command="inf2kit cleanup --local")
    if running:
        names = ", ".join(f"{leftover.label} ({leftover.status})" for leftover in running)
        yield ok(f"running: {names}", command=running[0].command)
    if not leftovers:
        yield ok("none")
