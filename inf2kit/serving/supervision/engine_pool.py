"""The engines of one endpoint: each has cores and a folder of its own, and they load one after the other."""

from __future__ import annotations

import os
import subprocess
from functools import partial

from inf2kit.serving import CODE, variables
from inf2kit.serving.log import log
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.engine_process import EngineProcess
from inf2kit.serving.supervision.heartbeat import ENGINE, Heartbeat
from inf2kit.serving.supervision.processes import start_child
from inf2kit.serving.supervision.retried import Retried
from inf2kit.serving.supervision.run_state import SupervisorState, was_opened

_MODULE = "inf2kit.serving.engine.server"
#: How often a thread of torch's looks for the others before it sleeps. This takes a quarter of a millisecond,
#: which is longer than what lies between two parallel operators. By default it takes 30 times as long: on a
#: busy machine on the core that the others wait for.
_SPIN_COUNT = "10000"


class EnginePool:
    """Keeps the engines of an endpoint running.

    While one loads, no other begins to: the host's memory holds the weights of one engine on their way to its
    cores, and the files that one has read are in the page cache for the next.

    Args:
        settings: The endpoint's settings.

    Attributes:
        heartbeats: The heartbeat of each engine.
    """

    def __init__(self, settings: Settings) -> None:
        self._run_dir = settings.run_dir
        self.heartbeats = [Heartbeat.create() for _ in range(settings.engines)]
        self._engines = [
            EngineProcess(
                partial(_start, settings, number, heartbeat),
                heartbeat,
                settings.engine_dir(number),
                of=f" (engine {number} of {settings.engines})" if settings.engines > 1 else "",
                # An earlier supervisor of this container may have had engines that were ready.
                was_ready=was_opened(settings.run_dir),
            )
            for number, heartbeat in enumerate(self.heartbeats)
        ]
        self._watches = [Retried(f"engine{engine.of}", engine.watch) for engine in self._engines]
        self._recorded: SupervisorState | None = None

    def watch(self) -> str | None:
        """Start engines that do not run, and end those that are stuck. Call it several times a second.

        Returns:
            The reason why the endpoint cannot serve, or None. Until it has served, each engine is needed;
            from then on one is enough.
        """
        for engine, watch in zip(self._engines, self._watches, strict=True):
            had_failed = engine.state == "failed"
            others = [other for other in self._engines if other is not engine]
            watch(may_load=not any(other.is_loading for other in others))
            if engine.state == "failed" and not had_failed and others:
                log("supervisor", f"cannot load the model{engine.of}: {engine.reason}")
        failed = [engine for engine in self._engines if engine.state == "failed"]
        if failed and (len(failed) == len(self._engines) or not was_opened(self._run_dir)):
            return f"{failed[0].reason}{failed[0].of}"
        waiting = [engine for engine in self._engines if engine.state not in ("ready", "failed")]
        engine = (waiting or failed or self._engines)[0]
        self.record_state(engine.state if waiting else "ready", engine.reason)
        return None

    def record_state(self, state: str, reason: str | None = None) -> None:
        """Write the supervisor's state file, unless it says so already."""
        restarts = sum(engine.restarts for engine in self._engines)
        held = sum(engine.held for engine in self._engines)
        recorded = SupervisorState(state, reason, restarts, held)
        if recorded != self._recorded:
            recorded.write(self._run_dir)
            self._recorded = recorded

    def kill(self) -> None:
        """End all engines at once."""
        for engine in self._engines:
            engine.kill()
        for engine in self._engines:
            engine.wait()


def _start(settings: Settings, number: int, heartbeat: Heartbeat) -> subprocess.Popen[bytes]:
    """Start an engine; one of several finds its cores and its folder in its environment.

    Raises:
        OSError: the system cannot start a process now.
    """
    environ: dict[str, str] = {}
    folder = None
    if settings.backend == "cpu":
        # Read when torch is loaded.
        environ["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", _SPIN_COUNT)
    if settings.engines > 1:
        folder = settings.engine_dir(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        environ |= {
            variables.ENGINE: str(number),
            # The runtime reads it when it is initialised: once the model is loaded it is too late.
            "NEURON_RT_VISIBLE_CORES": settings.visible_cores(number),
            # neuronx_distributed deletes and writes graphs there, and so does every other engine that has it.
            "BASE_COMPILE_WORK_DIR": f"{folder / 'compile'}/",
        }
    return start_child(
        _MODULE, str(settings.model_dir.absolute()), (CODE,), {ENGINE: [heartbeat]}, environ, folder
    )
