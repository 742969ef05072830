"""One run: build prompts, warm up, and measure one load after the other."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import inf2kit
from inf2kit.bench.load.loops import CellRun, Until
from inf2kit.bench.load.plan import BuildPrompt, Request, Workload
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Cell, Load
from inf2kit.bench.load.senders import Sender
from inf2kit.bench.load.server import ServerMetrics, increases
from inf2kit.bench.load.threads import run_in_thread
from inf2kit.bench.prompts import PromptBuilder
from inf2kit.client.endpoint import Endpoint
from inf2kit.client.results import TextResult
from inf2kit.errors import EndpointError

#: More kinds of warnings than this say nothing new.
_NOTICES = 8
#: Seconds between two reports of progress.
_REPORT_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        loads: The loads, one after the other.
        until: When each of them ends; a replay ends with its trace at the latest.
        workload: What is sent.
        warm_up: Calls at once before the first load, so that every replica has had one.
        seed: The seed of prompts, lengths and arrivals.
        streamed: Whether answers are streamed.
        slo: Limits in seconds, by the keys of ``SLO_METRICS``.
    """

    loads: tuple[Load, ...]
    until: Until
    workload: Workload
    warm_up: int
    seed: int
    streamed: bool
    slo: dict[str, float]

    def until_of(self, load: Load) -> Until:
        """Return when a load ends."""
        if load.kind != "replay":
            return self.until
        last_s = self.workload.times_s[-1] / load.value
        return dataclasses.replace(self.until, seconds=min(self.until.seconds, last_s))


@dataclass(frozen=True)
class Place:
    """Where a cell is in its run.

    Attributes:
        number: Its place, from 1.
        total: Number of cells.
        later_s: Seconds of all later cells; None if calls are counted.
    """

    number: int
    total: int
    later_s: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        place: Where the cell is in its run.
        cell: The cell.
    """

    place: Place
    cell: CellRun

    @property
    def left_s(self) -> float | None:
        """Seconds until the last call of the run is sent; None if calls are counted."""
        if self.place.later_s is None or self.cell.until.calls is not None:
            return None
        return max(self.cell.until.seconds - self.cell.elapsed_s, 0.0) + self.place.later_s

    def __str__(self) -> str:
        """Return one line."""
        cell = self.cell
        rate = cell.tokens / cell.elapsed_s if cell.elapsed_s else 0.0
        line = (
            f"{self.place.number}/{self.place.total} {cell.load}: {len(cell.samples)} calls, "
            f"{cell.failed} failed, {cell.in_flight} under way, {rate:.0f} tokens/s"
        )
        if cell.is_draining:
            return f"{line}, waiting for the last answers"
        return line if self.left_s is None else f"{line}, {self.left_s:.0f} s left"


class Run:
    """A run of a load benchmark.

    Args:
        endpoint: The endpoint.
        sender: How calls are sent.
        count_tokens: Returns the server's own count of a prompt's tokens.
        plan: What is measured.
        server: The container's counters.
        report: The report without cells.
        on_progress: Called twice a second.

    Attributes:
        endpoint: The endpoint.
        report: The report so far.
        error: Why it was given up: every call failed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        sender: Sender,
        count_tokens: Callable[[str], int],
        plan: Plan,
        server: ServerMetrics,
        report: Report,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.endpoint, self._sender, self._plan, self._server = endpoint, sender, plan, server
        self._count_tokens, self._on_progress = count_tokens, on_progress
        self._notices = dict.fromkeys(report.notices)
        self.report = report
        self.error: EndpointError | None = None

    async def prepare(self) -> BuildPrompt:
        """Find out where tokens are chosen and how to build prompts, and warm every replica up.

        Raises:
            EndpointError: every call failed.
        """
        await self.find_sampling()
        build_prompt: BuildPrompt = _no_prompts
        if self._plan.workload.needs_prompts:
            build_prompt = await run_in_thread(self._measure_words)
        requests = self._plan.workload.draw(f"{self._plan.seed} warm-up", build_prompt)
        calls = (self._sender.send(next(requests), _ignore) for _ in range(self._plan.warm_up))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        results = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        for outcome in outcomes:
            # A failure among others is for the measurement to count.
            if isinstance(outcome, BaseException) and (not results or not isinstance(outcome, EndpointError)):
                raise outcome
        for result in results:
            self._note(result)
        return build_prompt

    async def cells(self, build_prompt: BuildPrompt, stop: asyncio.Event) -> AsyncIterator[Cell]:
        """Measure one load after the other, and yield each cell when it has ended.

        Args:
            build_prompt: What ``prepare`` returned.
            stop: Ends the run; the cell that runs is kept as far as it is.
        """
        plan = self._plan
        for number, load in enumerate(plan.loads, 1):
            until = plan.until_of(load)
            left = None if until.calls else sum(plan.until_of(later).seconds for later in plan.loads[number:])
            requests = plan.workload.draw(f"{plan.seed} {load}", build_prompt)
            place = Place(number, len(plan.loads), left)
            yield await self.measure(load, until, requests, place, stop)
            if stop.is_set() or self.error is not None:
                return

    async def measure(
        self, load: Load, until: Until, requests: Iterator[Request], place: Place, stop: asyncio.Event
    ) -> Cell:
        """Measure one load, and add it to the report.

        Args:
            load: The load.
            until: When it ends.
            requests: What is sent.
            place: The cell's place among all, for the progress.
            stop: Ends it; what was measured is kept.
        """
        before = await self._server.read()
        running = CellRun(
            load,
            until,
            requests,
            self._sender,
            streamed=self._plan.streamed,
            times_s=self._plan.workload.times_s,
            on_result=self._note,
        )
        watch = asyncio.create_task(self._watch(running, place))
        try:
            cell = await running.run(f"{self._plan.seed} {load}", stop)
        finally:
            watch.cancel()
        cell = dataclasses.replace(cell, server=increases(before, await self._server.read()))
        self.report = dataclasses.replace(
            self.report, cells=(*self.report.cells, cell), notices=tuple(self._notices)
        )
        self.error = running.hopeless
        return cell

    async def find_sampling(self) -> str:
        """Return where tokens are chosen, and put it into the report: ``host``, ``device``, or empty.

        The container's counters tell, or whether the endpoint takes a seed, which no device does.
        """
        if not self.report.sampling:
            counters = await self._server.read() or {}
            on_device = counters.get("inf2kit_samples_on_device")
            if on_device is None:
                sampling = await run_in_thread(self._try_seed)
            else:
                sampling = "device" if on_device else "host"
            self.report = dataclasses.replace(self.report, sampling=sampling)
        return self.report.sampling

    def _try_seed(self) -> str:
        try:
            self.endpoint.with_options(max_retries=0).generate("a", max_new_tokens=1, do_sample=True, seed=1)
        except EndpointError as error:
            return "device" if error.code == "unsupported_parameter" else ""
        return "host"

    async def server_metrics(self) -> dict[str, float] | None:
        """Return what the container's ``/metrics`` say now; None if they cannot be read."""
        return await self._server.read()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sender.aclose()

    async def _watch(self, running: CellRun, place: Place) -> None:
        while True:
            self._on_progress(Progress(place, running))
            await asyncio.sleep(_REPORT_S)

    def _measure_words(self) -> BuildPrompt:
        return PromptBuilder.measure(self._count_tokens).build

    def _note(self, result: TextResult) -> None:
        for warning in itertools.islice(result.warnings, _NOTICES):
            if len(self._notices) < _NOTICES:
                self._notices[warning] = None


def new_report(endpoint: str, where: str, machine: str, transport: str, plan: Plan) -> Report:
    """Return the report of a run that begins now."""
    return Report(
        endpoint=endpoint,
        where=where,
        machine=machine,
        transport=f"{transport}, {'streamed' if plan.streamed else 'whole answers'}",
        workload=plan.workload.description,
        slo=plan.slo,
        seed=plan.seed,
        began=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        version=inf2kit.__version__,
        notices=(),
        cells=(),
    )


def parse_loads(
    callers: Sequence[int], rates: Sequence[float], speeds: Sequence[float] = ()
) -> tuple[Load, ...]:
    """Return the loads of a run: closed loops, rates, and replays of a trace."""
    closed = (Load("callers", value) for value in callers)
    rated = (Load("rate", value) for value in rates)
    return (*closed, *rated, *(Load("replay", value) for value in speeds))


def _no_prompts(_tokens: int, _seed: int) -> str:
    raise AssertionError("a workload of whole requests builds no prompts")


def _ignore() -> None:
    """Pieces of a warm-up are not timed."""
