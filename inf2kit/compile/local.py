"""Compiling on this machine: check first, fetch, compile in a process of its own, keep the result."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from inf2kit import catalog, paths
from inf2kit.compile import disk_space, hub
from inf2kit.compile.export import MARK
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError
from inf2kit.fit import Architecture

Progress = Callable[[str], None]

_POLL_S = 0.5
#: Between two lines that say that the compiler is still at work.
_SAY_EVERY_S = 30.0
_LOG = "compile.log"


@dataclass(frozen=True)
class Plan:
    """What compiling would do.

    Attributes:
        spec: What is compiled.
        gated: Whether the hub asks for a token.
        folder: Where the result is kept.
        done: Whether it is there already.
        disk: Bytes that are written.
    """

    spec: CompileSpec
    gated: bool
    folder: Path
    done: bool
    disk: int | None

    def lines(self) -> list[str]:
        """The plan for people."""
        spec = self.spec
        where = "on the device" if spec.on_device_sampling else "on the host"
        size = f"about {self.disk / 1e9:.1f} GB" if self.disk else "as many bytes as the weights have"
        return [
            f"compile {spec.model}" + (f", revision {spec.revision}" if spec.revision else ""),
            f"  {spec.shapes.batch_size} rows of {spec.shapes.sequence_length} tokens, prompts up to "
            f"{spec.shapes.max_context_length}, {spec.dtype}, {spec.tensor_parallel_size} cores, "
            f"sampling {where}",
            f"  with optimum-neuron {catalog.image().versions['optimum_neuron']} and neuronx-cc "
            f"{catalog.image().versions['neuronx_cc']}, as in the image {catalog.image().tag}",
            f"  to {self.folder}" + (": it is there already" if self.done else f", {size}"),
        ]


def plan(spec: CompileSpec, *, gated: bool) -> Plan:
    """What is to be done.

    Raises:
        CompileError: the model cannot be compiled so, as far as its architecture is known here.
    """
    disk = None
    if spec.model in catalog.models() or Path(spec.model).exists():
        architecture = Architecture.find(spec.model)
        spec.check(architecture)
        disk = spec.shard_bytes(architecture)
    # What is compiled by other versions is something else.
    versions = catalog.image().versions
    source = ""
    if Path(spec.model).is_dir():
        # Another model may take the folder's place: by size and time, as nobody would hash 13 GB to ask.
        files = sorted(path for path in Path(spec.model).iterdir() if path.is_file())
        source = "".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in files)
    name = f"{spec.to_json()} {versions['optimum_neuron']} {versions['neuronx_cc']} {source}"
    folder = paths.home() / "compiled" / hashlib.sha256(name.encode()).hexdigest()[:16]
    return Plan(spec, gated, folder, folder.is_dir(), disk)


def run(planned: Plan, progress: Progress, *, token: str | None = None) -> tuple[Path, str | None]:
    """Compile, or take what was compiled before: its folder, and the model's exact revision.

    Args:
        planned: The plan.
        progress: Told each step.
        token: A token of the hub, instead of the one that the user has logged in with.

    Raises:
        CompileError: the compiler is missing, or the compilation has failed; its log is kept.
    """
    revision_file = planned.folder / ".revision"
    if planned.done:
        progress(f"compiled before, in {planned.folder}")
        return planned.folder, (revision_file.read_text(encoding="utf-8") or None)
    check_compiler()
    spec = planned.spec
    if not Path(spec.model).is_dir():
        hub.check_token(spec.model, gated=planned.gated and token is None)
        _check_room(planned)
        progress(f"fetching {spec.model}")
    source, revision = hub.fetch(spec.model, spec.revision, token)
    architecture = Architecture.find(str(source))
    spec.check(architecture)
    needed = spec.shard_bytes(architecture)
    work = planned.folder.with_suffix(".making")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    disk_space.check({work: needed + needed // 10})
    _export(replace(spec, revision=revision), source, work, progress)
    (work / "model" / ".revision").write_text(revision or "", encoding="utf-8")
    (work / "model").rename(planned.folder)
    shutil.rmtree(work)
    return planned.folder, revision


def _check_room(planned: Plan) -> None:
    """Before the weights are fetched, as far as the model's size is known."""
    if planned.disk is None:
        return
    needs = {planned.folder: planned.disk + planned.disk // 10}
    if not hub.is_cached(planned.spec.model, planned.spec.revision):
        needs[hub.cache()] = planned.spec.weight_bytes(Architecture.find(planned.spec.model))
    disk_space.check(needs)


def check_compiler() -> None:
    """The compiler is here, and in the versions that the endpoint's image loads.

    Raises:
        CompileError: it is not; what to do instead.
    """
    image = catalog.image()
    elsewhere = (
        f"compile in the image {image.tag}, which has both and needs no device, or let SageMaker do that: "
        "add --job"
    )
    missing = [
        name
        for name, module in (("neuronx-cc", "neuronxcc"), ("optimum-neuron", "optimum"))
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise CompileError(f"{' and '.join(missing)} cannot be found on this machine; {elsewhere}")
    installed = metadata.version("optimum-neuron")
    if installed != image.versions["optimum_neuron"]:
        raise CompileError(
            f"optimum-neuron {installed} is installed here, and the endpoint's image loads only what "
            f"{image.versions['optimum_neuron']} has compiled; {elsewhere}"
        )


def _export(spec: CompileSpec, source: Path, work: Path, progress: Progress) -> None:
    """The compilation in a process group of its own, which ends whole, and which memory may kill alone."""
    (work / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "inf2kit.compile.export", "spec.json", str(source.resolve()), "model"]
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
            # Nobody's "yes" to a question about running a repository's own code.
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _follow(process, log, work / "compiler", progress)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode == 0:
        return
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    log = _kept_log(work)
    if process.returncode < 0:
        weights = spec.weight_bytes(Architecture.find(str(source)))
        raise CompileError(
            f"the compilation was ended by signal {-process.returncode}; 9 is often a lack of memory: it "
            "holds the weights "
            f"about three times, {3 * weights / 1e9:.0f} GB; its log is {log}"
        )
    raise CompileError(
        f"the compilation has failed: {lines[-1] if lines else 'it said nothing'}; its log is {log}"
    )


def child_environment() -> dict[str, str]:
    """This process's environment, for one of Python that finds this inf2kit wherever it is started."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def _kept_log(work: Path) -> Path:
    """Keep the log where the next try does not remove it."""
    target = work.with_suffix(".log")
    shutil.copyfile(work / _LOG, target)
    return target


def _follow(process: subprocess.Popen[bytes], log: Path, compiler: Path, progress: Progress) -> None:
    """Pass on what the process says of its progress, and that it lives where it says nothing."""
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
            if time.monotonic() - last_line > _SAY_EVERY_S:
                last_line = time.monotonic()
                graphs = len(list(compiler.rglob("*.neff")))
                progress(
                    f"compiling for {(last_line - began) / 60:.1f} minutes; {graphs} of 2 graphs are done"
                )
            time.sleep(_POLL_S)
