"""Run ``inf2kit.compile.export`` in a process of its own, and follow it until it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from inf2kit.compile.export import MARK
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture

Progress = Callable[[str], None]

_POLL_S = 0.5
#: Seconds without a line of the compiler's after which a line reports that it is still running.
_REPORT_EVERY_S = 30.0
_LOG = "compile.log"


def run_export(spec: CompileSpec, source: Path, work: Path, progress: Progress) -> Path:
    """Compile in a process group of its own, which ends whole, and which memory may kill alone.

    Args:
        spec: What to compile.
        source: The folder of weights.
        work: An empty folder for the compiler's files.
        progress: Called with each line of the process's progress.

    Returns:
        The compiled model's folder, inside ``work``.

    Raises:
        CompileError: the compilation has failed; its log is kept beside ``work``.
    """
    (work / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    # The process ends when this pipe closes, also where this process is killed.
    lifeline, own_end = os.pipe()
    program = [sys.executable, "-m", "inf2kit.compile.export"]
    command = [*program, "spec.json", str(source.resolve()), "model", str(lifeline)]
    environment = {
        **child_environment(),
        "BASE_COMPILE_WORK_DIR": str(work / "compiler"),
        "PYTHONUNBUFFERED": "1",
    }
    log = work / _LOG
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=environment,
            # A library that asks whether to run a repository's own code must get no answer.
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lifeline],
        )
    os.close(lifeline)
    try:
        _follow(process, log, work / "compiler", progress)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        os.close(own_end)
    if process.returncode != 0:
        raise _failure(process.returncode, spec, source, log)
    return work / "model"


def child_environment() -> dict[str, str]:
    """Return this process's environment, in which a child Python finds this inf2kit from any folder."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def _follow(process: subprocess.Popen[bytes], log: Path, compiler: Path, progress: Progress) -> None:
    """Pass on the process's lines of progress, and report that it runs where it prints none."""
    began = last_line = time.monotonic()
    with log.open(encoding="utf-8", errors="replace") as lines:
        while True:
            ended = process.poll() is not None
            while line := lines.readline():
                if line.startswith(MARK):
                    progress(line.removeprefix(MARK).rstrip())
                    last_line = time.monotonic()
            if ended:
                return
            if time.monotonic() - last_line > _REPORT_EVERY_S:
                last_line = time.monotonic()
                graphs = len(list(compiler.rglob("*.neff")))
                progress(
                    f"compiling for {(last_line - began) / 60:.1f} minutes; {graphs} of 2 graphs are done"
                )
            time.sleep(_POLL_S)


def _failure(returncode: int, spec: CompileSpec, source: Path, log: Path) -> CompileError:
    """Describe a compilation that failed, after copying its log to where the next try does not delete it."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    copy = log.parent.with_suffix(".log")
    shutil.copyfile(log, copy)
    if returncode < 0:
        weights = spec.weight_bytes(Architecture.find(str(source)))
        return CompileError(
            f"the compilation was ended by signal {-returncode}; 9 is often a lack of memory: it "
            f"holds the weights about three times, {3 * weights / 1e9:.0f} GB; its log is {copy}"
        )
    reason = lines[-1] if lines else "it printed nothing"
    return CompileError(f"the compilation has failed: {reason}; its log is {copy}")
