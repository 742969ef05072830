"""The closed form of rows that share an engine: a bound of every scheduler, and the simulation's cross-check.

An engine that is never idle spends ``P + c`` on each call's prefill and stall, during which no row decodes,
and a step of n rows advances n calls by a token each. With all B rows live, a call of L new tokens takes

    P + c + (L - 1) * s(B) / B

seconds of the engine's time. The step per row, s(n) / n, falls with n, so that this is the least.
"""

from __future__ import annotations

from inf2kit.planning.times import EngineModel


def engine_s(engine: EngineModel, input_tokens: float, new_tokens: float, rows: float | None = None) -> float:
    """Seconds of an engine's time that one call takes.

    Args:
        engine: The engine.
        input_tokens: Tokens of the prompt.
        new_tokens: Tokens of the answer.
        rows: Live rows, on average; all of them by default, which is the least time.
    """
    times, live = engine.times, min(engine.rows, engine.rows if rows is None else rows)
    step = times.step_s + live * times.row_step_s
    return times.prefill(round(input_tokens)) + times.stall_s + (new_tokens - 1) * step / live


def alone_s(engine: EngineModel, input_tokens: float, new_tokens: float) -> float:
    """Seconds of a call that has the engine to itself: the least latency."""
    return engine_s(engine, input_tokens, new_tokens, rows=1) + engine.times.round_trip_s


def largest_rate(engine: EngineModel, input_tokens: float, new_tokens: float) -> float:
    """Calls per second of one engine that is never idle and has all rows live."""
    return 1 / engine_s(engine, input_tokens, new_tokens)


def closed_loop(
    engine: EngineModel, callers: float, input_tokens: float, new_tokens: float, instances: int = 1
) -> tuple[float, float]:
    """Mean latency in seconds, and calls per second, of callers who each wait for their answer and call
    again.

    Exact in the mean, within 1 % of the simulation, whatever the spread of the lengths.
    """
    each = callers / instances
    rate = instances / engine_s(engine, input_tokens, new_tokens, rows=each)
    return callers / rate, rate


def open_loop(
    engine: EngineModel, rate: float, input_tokens: float, new_tokens: float
) -> tuple[float, float] | None:
    """Mean latency and live rows of one engine with calls at random times, while rows are free.

    Of each second, ``rate * (P + c)`` is prefill, in which no row decodes. A cross-check for loads below
    half; above it, calls wait for rows, which only the simulation shows. None if prefills take all of the
    time.
    """
    times = engine.times
    prefill = times.prefill(round(input_tokens))
    busy = rate * (prefill + times.stall_s)
    if busy >= 1:
        return None
    rows = 0.0
    for _ in range(60):
        step = times.step_s + rows * times.row_step_s
        rows = 0.5 * rows + 0.5 * min(engine.rows, rate * (new_tokens - 1) * step / (1 - busy))
    step = times.step_s + rows * times.row_step_s
    others = busy * prefill / (2 * (1 - busy))
    running = min(1.0, rows) * step * ((1 - busy) / 2 + busy / (1 - busy))
    return others + running + prefill + (new_tokens - 1) * step / (1 - busy) + times.round_trip_s, rows
