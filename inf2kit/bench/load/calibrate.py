"""Measures what the planner wants: prefill, step, and what a full engine adds to them.

Alone, a call takes ``P + (L - 1) * s(1)`` and the network's round trip: P is the prefill of its prompt, L the
number of its new tokens. In a closed loop of B callers on B rows it takes ``B * (P + c) + (L - 1) * s(B)``,
since every row waits for the prefills of all others (``inf2kit.planning.closed_form``). One loaded run gives
one equation more. Where the device samples, a step takes as long at any number of rows, so it gives c, the
stall behind each prefill. Where the host samples, a step grows with its rows, and it gives s(B).

A call alone does not show which part of its first token's time the engine spent: gateway and tokenizer work
meanwhile, and no row waits for them. If the full loop is faster than ``B * P + (L - 1) * s(1)``, there is
neither c nor growth, and the difference is that part, which ``B - 1`` other rows did not wait for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from inf2kit.bench.load.loops import Until
from inf2kit.bench.load.metrics import Window, values_of
from inf2kit.bench.load.plan import BuildPrompt, Workload, built_request
from inf2kit.bench.load.run import Place, Run
from inf2kit.bench.load.samples import Cell, Load, Sample
from inf2kit.bench.load.threads import run_in_thread
from inf2kit.catalog.calibration import Calibration
from inf2kit.errors import EndpointError, EndpointRequestError, Inf2KitError

#: Calls alone: of the workload, so that ten are in their window, and of one new token at other lengths.
SINGLE_CALLS, PREFILL_CALLS = 12, 5
#: Refused calls that time the network.
_ROUND_TRIPS = 7
#: Utilisation of the rate that is measured last.
RHO = 0.7
_CELLS = 5
#: The share by which a full loop may be faster than a call alone, before something must be wrong.
_NOISE = 0.1


@dataclass(frozen=True)
class Subject:
    """What is calibrated.

    Attributes:
        preset: The preset's name.
        batch_size: Rows of one engine.
        sequence_length: Tokens of a row.
        engines: Engines behind the endpoint.
        on_device_sampling: Whether the device chooses the tokens.
        machine: What it runs on.
    """

    preset: str
    batch_size: int
    sequence_length: int
    engines: int
    on_device_sampling: bool
    machine: str


class Calibrator:
    """Runs the loads of a calibration, and fits the times to them.

    Args:
        run: A run that has not begun; its report gets the loads.
        subject: What is calibrated.
        workload: What is sent; lengths, or a trace of lengths.
        seconds: Duration of the closed loop and of the rate.
        seed: The seed of prompts, lengths and arrivals.
    """

    def __init__(self, run: Run, subject: Subject, workload: Workload, seconds: float, seed: int) -> None:
        self._run, self._subject, self._workload = run, subject, workload
        self._seconds, self._seed = seconds, seed

    async def measure(
        self, build_prompt: BuildPrompt, stop: asyncio.Event, keep: Callable[[Cell], None]
    ) -> Calibration | None:
        """Measure and fit. Returns None if ``stop`` is set meanwhile, or every call failed.

        Args:
            build_prompt: What ``Run.prepare`` returned.
            stop: Ends it.
            keep: Called with each load that was measured.

        Raises:
            EndpointError: the endpoint cannot be called.
            Inf2KitError: what was measured gives no times.
        """
        round_trip_s = await run_in_thread(self._time_round_trips)
        single = await self._cell(1, Load("callers", 1), Until(0, SINGLE_CALLS), build_prompt, stop)
        keep(single)
        prefills = {}
        for place, tokens in enumerate(self._prefill_lengths(single), 2):
            if not self._is_over(stop):
                prefills[tokens] = await self._prefill(place, tokens, build_prompt, stop)
        if self._is_over(stop):
            return None
        callers = Load("callers", self._subject.batch_size * self._subject.engines)
        full = await self._cell(_CELLS - 1, callers, Until(self._seconds), build_prompt, stop)
        keep(full)
        if self._is_over(stop):
            return None
        notice = "; ".join(self._run.report.notices)
        calibration = fit(self._subject, single, full, prefills, round_trip_s, notice)
        input_tokens = statistics.fmean(values_of("input_sequence_length", full.ended))
        rate = Load("rate", float(f"{RHO * saturated_rate(calibration, input_tokens):.3g}"))
        keep(await self._cell(_CELLS, rate, Until(self._seconds), build_prompt, stop))
        return calibration

    def _is_over(self, stop: asyncio.Event) -> bool:
        return stop.is_set() or self._run.error is not None

    def _time_round_trips(self) -> float:
        """Seconds until a call is refused before any work: those of network, SageMaker and gateway."""
        endpoint, trips = self._run.endpoint.with_options(max_retries=0), []
        for _ in range(_ROUND_TRIPS):
            began = time.perf_counter()
            try:
                endpoint.generate("x", allow_long=True, max_new_tokens=0)
            except EndpointRequestError:
                trips.append(time.perf_counter() - began)
            except EndpointError:
                continue
        return statistics.median(trips) if trips else 0.0

    def _prefill_lengths(self, single: Cell) -> list[int]:
        """Lengths of prompts below and above those of the workload; its own were measured already."""
        own = round(statistics.fmean(values_of("input_sequence_length", single.ended) or [1.0]))
        longest = self._subject.sequence_length - 1
        return sorted({max(own // 4, 16), min(4 * own, longest)} - {own})

    async def _cell(
        self, place: int, load: Load, until: Until, build_prompt: BuildPrompt, stop: asyncio.Event
    ) -> Cell:
        requests = self._workload.draw(f"{self._seed} {load} calibration", build_prompt)
        later_s = self._seconds * min(_CELLS - place, 2)
        return await self._run.measure(load, until, requests, Place(place, _CELLS, later_s), stop)

    async def _prefill(
        self, place: int, tokens: int, build_prompt: BuildPrompt, stop: asyncio.Event
    ) -> list[Sample]:
        """Calls with one new token, alone. They are not part of the report."""
        report = self._run.report
        requests = (
            built_request(build_prompt(tokens, self._seed + number), tokens, 1) for number in range(10**6)
        )
        later_s = 2 * self._seconds
        cell = await self._run.measure(
            Load("callers", 1), Until(0, PREFILL_CALLS), requests, Place(place, _CELLS, later_s), stop
        )
        self._run.report = dataclasses.replace(report, notices=self._run.report.notices)
        return list(cell.ended)


def fit(
    subject: Subject,
    single: Cell,
    full: Cell,
    prefills: dict[int, list[Sample]],
    round_trip_s: float,
    notice: str = "",
) -> Calibration:
    """Compute a calibration from calls alone and from a closed loop that keeps every row busy.

    Args:
        subject: What is calibrated.
        single: Calls of the workload, one after the other.
        full: A closed loop with a caller for each row of each engine.
        prefills: Calls of one new token, one after the other, by input tokens.
        round_trip_s: Seconds of the network.
        notice: What is simulated.

    Raises:
        Inf2KitError: there are not enough answers, they were not streamed, or a full engine answered faster
            than an idle one.
    """
    steps = values_of("inter_token_latency", single.ended)
    counted = [sample for sample in Window.of(full).ended(full) if sample.failure is None]
    if not steps or not counted:
        raise Inf2KitError(
            "the calls say nothing of prefill and step: they must be streamed, succeed, and have 2 new "
            "tokens or more; look at the checks above, and measure longer (--seconds)"
        )
    step_alone_s = statistics.median(steps)
    first_s = {round(statistics.fmean(values_of("input_sequence_length", single.ended))): single.ended}
    first_s.update({tokens: samples for tokens, samples in prefills.items() if samples})
    prefill_s = {
        tokens: max(statistics.median(values) - round_trip_s, 1e-6)
        for tokens, samples in sorted(first_s.items())
        if (values := values_of("time_to_first_token", samples))
    }
    new_tokens = values_of("output_sequence_length", counted)
    latency_s = statistics.fmean(values_of("request_latency", counted)) - round_trip_s
    rows, further = subject.batch_size, max(statistics.fmean(new_tokens) - 1, 1e-9)
    own_prefill_s = prefill_s[next(iter(first_s))]
    stall_s = row_step_s = outside_s = 0.0
    more_s = latency_s - rows * own_prefill_s - further * step_alone_s
    if more_s < 0 and rows > 1:
        alone_s = own_prefill_s + further * step_alone_s
        if latency_s < (1 - _NOISE) * alone_s:
            raise Inf2KitError(
                f"with every row busy an answer took {latency_s:.3g} s, and a call alone {alone_s:.3g} s: "
                "something else used the endpoint or its machine during the calls alone; calibrate again"
            )
        outside_s = min(-more_s / (rows - 1), own_prefill_s)
    elif subject.on_device_sampling:
        stall_s = max(more_s, 0.0) / rows
    elif rows > 1:
        row_step_s = more_s / further / (rows - 1)
    return Calibration(
        preset=subject.preset,
        batch_size=rows,
        sequence_length=subject.sequence_length,
        engines=subject.engines,
        on_device_sampling=subject.on_device_sampling,
        prefill_tokens=tuple(prefill_s),
        prefill_s=tuple(round(max(seconds - outside_s, 1e-6), 6) for seconds in prefill_s.values()),
        step_s=round(step_alone_s - row_step_s, 9),
        row_step_s=round(row_step_s, 9),
        stall_s=round(stall_s, 6),
        new_tokens=round(statistics.fmean(new_tokens), 3),
        new_tokens_deviation=round(statistics.pstdev(new_tokens), 3),
        round_trip_s=round(round_trip_s + outside_s, 6),
        measured=dt.datetime.now(dt.timezone.utc).date(),
        machine=subject.machine,
        notice=notice,
    )


def saturated_rate(calibration: Calibration, input_tokens: float) -> float:
    """Calls a second of all engines when every row is busy, by the closed form."""
    from inf2kit.planning.times import ServiceTimes

    times = ServiceTimes(
        calibration.prefill_tokens,
        calibration.prefill_s,
        calibration.step_s,
        calibration.row_step_s,
        calibration.stall_s,
    )
    rows = calibration.batch_size
    decode_s = (calibration.new_tokens - 1) * times.step(rows) / rows
    return calibration.engines / (times.prefill(round(input_tokens)) + times.stall_s + decode_s)
