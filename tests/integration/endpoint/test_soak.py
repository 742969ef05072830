"""One minute of the soak: random lengths, callers that leave, a killed engine; nothing may be left."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.soak import Soak
from inf2kit.rehearsal.local.state import EndpointState


def test_a_minute_at_8_callers_leaks_nothing(victim: EndpointState, figure: Callable[[str], None]) -> None:
    outcome = Soak(victim).run(60, kill_every_s=25)
    assert (outcome.wrong, outcome.differing) == ([], {})
    assert outcome.kills == 2
    assert outcome.exact > 50
    assert outcome.left > 10
    assert outcome.busy_at_the_end == 0, "every row and every place in the queue is free again"
    calm = [sample for sample in outcome.samples if sample.processes == outcome.samples[0].processes]
    assert len(calm) > len(outcome.samples) / 2, "no process is left over"
    assert calm[-1].files <= calm[0].files + 40, "no socket or file is left open by each call"
    # A leak of a kilobyte a call would be more; what a restarted engine has is its own.
    assert outcome.growth("memory_mb") < 1.25
    figure(
        f"soak, one minute (simulated): {outcome.exact} answers exact, {outcome.left} streams left, "
        f"{outcome.kills} engines killed, errors {outcome.errors}, memory last fifth / second fifth "
        f"{outcome.growth('memory_mb'):.3f}"
    )
