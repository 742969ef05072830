"""Run the checks, all at once; what a check raises becomes its line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from inf2kit import aws
from inf2kit.doctor.checks import CHECKS, Check
from inf2kit.doctor.finding import Finding, NotCheckedError, Report, Status, problem
from inf2kit.doctor.surroundings import Surroundings, stand_in
from inf2kit.errors import Inf2KitError
from inf2kit.extras import install_command

#: Seconds that all checks have together: a network may swallow what is sent to it.
_PATIENCE_S = 90.0
_POLL_S = 0.1


def examine(
    surroundings: Surroundings,
    progress: Callable[[list[str]], None] = lambda _: None,
    *,
    checks: Iterable[Check] = CHECKS,
    patience_s: float = _PATIENCE_S,
) -> Report:
    """Run every check that fits the surroundings, and report in the checks' own order.

    Args:
        surroundings: What is looked at.
        progress: Called some times a second with the names of the checks that are still running.
        checks: The checks to run.
        patience_s: Seconds after which a check that has not ended is given up.
    """
    fitting = [check for check in checks if check.fits(surroundings)]
    findings: dict[Check, list[Finding]] = {}

    def run(check: Check) -> None:
        findings[check] = _run(check, surroundings)

    for check in fitting:
        # As daemons, so that a check that hangs does not keep the process from ending.
        threading.Thread(target=run, args=(check,), daemon=True, name=f"check-{check.name}").start()
    deadline = time.monotonic() + patience_s
    while running := [check for check in fitting if check not in findings]:
        if time.monotonic() > deadline:
            break
        progress([check.name for check in running])
        time.sleep(_POLL_S)
    timed_out = f"no answer within {patience_s:.0f} s; try again, or with --offline"
    lines = [
        replace(finding, check=check.name, group=check.group)
        for check in fitting
        for finding in findings.get(check, [Finding(Status.NOT_CHECKED, timed_out)])
    ]
    return Report(tuple(lines), _subject(surroundings), _next_step(lines, surroundings))


def _run(check: Check, surroundings: Surroundings) -> list[Finding]:
    """Run one check. A check that cannot be made says why."""
    try:
        with aws.translate_errors(Inf2KitError, f"the check of {check.name}"):
            return list(check.run(surroundings))
    except NotCheckedError as error:
        return [Finding(Status.NOT_CHECKED, str(error), error.hint, error.command)]
    except Inf2KitError as error:
        return [Finding(Status.NOT_CHECKED, str(error))]
    except ImportError as error:
        reason = f"it needs {error.name!r}, which is not installed"
        return [Finding(Status.NOT_CHECKED, reason, command=install_command("local"))]
    except Exception as error:
        reason = " ".join(str(error).split())
        return [problem(f"the check itself failed ({type(error).__name__}: {reason})", "please report it")]


def _subject(surroundings: Surroundings) -> str:
    if surroundings.preset is None:
        return "this machine" if surroundings.offline else "this machine and your AWS account"
    preset = surroundings.preset
    where = preset.compute.instance_type if surroundings.is_deployment else "this machine"
    return f"{preset.name} on {where}"


def _next_step(findings: list[Finding], surroundings: Surroundings) -> str:
    preset = surroundings.preset
    again = surroundings.same_again
    problems = [finding for finding in findings if finding.status is Status.PROBLEM]
    commands = [finding.command for finding in problems if finding.command]
    if commands:
        return f"run: {commands[0]}   then again: {again}"
    if problems:
        return f"mend the lines with [x], then run again: {again}"
    if preset is not None and not surroundings.is_deployment:
        return f"start it: inf2kit local up {surroundings.preset_argument}"
    if not any(
        finding.check == "identity" and finding.status is not Status.NOT_CHECKED for finding in findings
    ):
        return "rehearse without an account: inf2kit cloud up, or inf2kit local up smollm2-135m-local"
    if preset is None:
        return "choose a preset ('inf2kit presets'), and look at it: inf2kit doctor PRESET"
    if stand_in():
        package = f"inf2kit package embedded --preset {surroundings.preset_argument} --rehearsal"
        return f"package it: {package} --output s3://BUCKET/models"
    return f"compile it: inf2kit compile {surroundings.preset_argument} --output s3://BUCKET/models"
