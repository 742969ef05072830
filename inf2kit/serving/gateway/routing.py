"""Which engine answers a call: the least loaded of those that serve and have room for it.

A call gets its engine when its turn comes, not when it arrives: what waits here is lost with no engine, and
goes to whichever has room first. Turns are given in the order of arrival.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inf2kit.errors import RequestError, unavailable
from inf2kit.serving.engine.admission import Admission
from inf2kit.serving.gateway.crashes import Crashes, Prompts
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import Heartbeat

#: States of an engine, and of all together: that of the first one here that any of them has.
_STATES = ("ready", "stuck", "loading", "down")


@dataclass(eq=False)
class Engine:
    """One engine, as the gateway knows it.

    Attributes:
        number: Its number, from 0.
        socket_path: Its Unix socket.
        heartbeat: Its heartbeat.
        admission: The texts of the calls that have a turn with it.
        calls: Number of these calls.
        reported: What it has said last, ``loading`` or ``ready``; ``down`` once its socket has closed.
        last_turn: Number of the last turn that was given, so that equal engines take turns.
    """

    number: int
    socket_path: Path
    heartbeat: Heartbeat
    admission: Admission
    calls: int = 0
    reported: str = "loading"
    last_turn: int = 0

    @property
    def state(self) -> str:
        """``ready``, ``stuck``, ``loading`` or ``down``."""
        return "stuck" if self.reported == "ready" and self.heartbeat.stalled else self.reported


@dataclass(eq=False)
class _Waiting:
    """A call that waits for its turn."""

    texts: int
    prompts: Prompts
    turn: asyncio.Future[Engine]


class Router:
    """Gives the calls of an endpoint their turns with its engines.

    Args:
        settings: The endpoint's settings.
        heartbeats: The heartbeat of each engine.

    Attributes:
        engines: The engines.
        admission: Counts all texts, those that wait here included, against what the living engines hold.
        crashes: Remembers the prompts that an engine had when it ended.
        rows: The rows of the living engines.
    """

    def __init__(self, settings: Settings, heartbeats: Sequence[Heartbeat]) -> None:
        self.engines = [
            Engine(number, settings.socket_path(number), heartbeat, Admission(settings.max_prompts))
            for number, heartbeat in enumerate(heartbeats)
        ]
        self.admission = Admission(settings.max_prompts)
        self.crashes = Crashes()
        self.rows = settings.shapes.batch_size
        self._rows_of_one, self._prompts_of_one = settings.shapes.batch_size, settings.max_prompts
        # A worker is busy for a whole call, and an engine has its share of the workers.
        self._most_calls = max(settings.model_server_workers // settings.engines, 1)
        self._waiting: deque[_Waiting] = deque()
        self._turns = itertools.count(1)

    @property
    def serving(self) -> list[Engine]:
        """The engines that answer calls."""
        return [engine for engine in self.engines if engine.state == "ready"]

    @property
    def state(self) -> str:
        """``ready`` while one engine serves; else the state of the one that is nearest to it."""
        return min((engine.state for engine in self.engines), key=_STATES.index)

    def report(self, engine: Engine, state: str) -> None:
        """Note what an engine says of itself, or that it is down."""
        if engine.reported == "ready" and state == "down":
            self.crashes.record_crash(engine.number)
        engine.reported = state
        living = max(sum(engine.reported == "ready" for engine in self.engines), 1)
        self.admission.capacity, self.rows = living * self._prompts_of_one, living * self._rows_of_one
        self._give_turns()

    def wait_for_turn(self, texts: int, prompts: Prompts) -> asyncio.Future[Engine]:
        """Return what becomes the engine of a call when its turn comes, or the error that there is none.

        Args:
            texts: Number of the call's texts.
            prompts: What ``Crashes.check`` has returned for it.
        """
        waiting = _Waiting(texts, prompts, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._give_turns()
        return waiting.turn

    def leave(self, turn: asyncio.Future[Engine]) -> None:
        """Give up a turn that has not come."""
        turn.cancel()
        self._waiting = deque(waiting for waiting in self._waiting if waiting.turn is not turn)

    def end_turn(self, engine: Engine, texts: int, prompts: Prompts, *, failed: bool) -> None:
        """Note that a call has its answer, or ``failed``: that its engine will not give it one."""
        engine.calls -= 1
        engine.admission.release(texts)
        self.crashes.leave(prompts, engine.number, failed=failed)
        self._give_turns()

    def _give_turns(self) -> None:
        """Give turns in the order of arrival. A call for which no engine has room lets others pass.

        But no list gets the engine that will have room for it first: short lists would keep a long one
        waiting until its deadline.
        """
        passed: list[_Waiting] = []
        reserved: list[Engine] = []
        while self._waiting:
            serving = self.serving
            free = [engine for engine in serving if engine.calls < self._most_calls]
            if serving and not free:
                break
            waiting = self._waiting.popleft()
            try:
                engine = self._choose(waiting, serving, free, reserved)
            except RequestError as error:
                waiting.turn.set_exception(error)
                continue
            if engine is None:
                passed.append(waiting)
                reserved += self._reserve(waiting, [other for other in serving if other not in reserved])
                continue
            engine.calls += 1
            engine.last_turn = next(self._turns)
            engine.admission.admit(waiting.texts)
            self.crashes.enter(waiting.prompts, engine.number)
            waiting.turn.set_result(engine)
        self._waiting.extendleft(reversed(passed))

    @staticmethod
    def _reserve(waiting: _Waiting, engines: list[Engine]) -> list[Engine]:
        """The engine that will be the first to have room for a list; none if one has room, or for a text."""
        if waiting.texts == 1 or any(engine.admission.has_room(waiting.texts) for engine in engines):
            return []
        return sorted(engines, key=lambda engine: engine.admission.further_texts)[:1]

    def _choose(
        self, waiting: _Waiting, serving: list[Engine], free: list[Engine], reserved: list[Engine]
    ) -> Engine | None:
        """The least loaded of the engines with a free turn and room for a call; None if it has to wait.

        A list gets none of the ``reserved`` engines.

        A prompt that may have ended one engine must not end them all: it runs with one engine at a time, and
        not with the last one.

        Raises:
            RequestError: 503, no engine serves that may have the call; 422, it has ended two.
        """
        if not serving:
            raise unavailable("the engine is not running; try again in a moment")
        if len(self.engines) > 1 and self.crashes.is_suspect(waiting.prompts):
            self.crashes.check(waiting.prompts)
            if len(serving) == 1:
                raise unavailable(
                    "this prompt was running when an engine ended, so it is not sent to the last one; "
                    "try again when another engine is ready"
                )
            if self.crashes.is_running(waiting.prompts):
                return None
        if waiting.texts > 1:
            free = [engine for engine in free if engine not in reserved]
        with_room = [engine for engine in free if engine.admission.has_room(waiting.texts)]
        return min(with_room, key=lambda engine: (engine.admission.texts, engine.last_turn), default=None)
