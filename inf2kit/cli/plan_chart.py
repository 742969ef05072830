"""The chart of a plan: latency and first token against the load, and the calls that fail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inf2kit.bench import charts
from inf2kit.planning.plan import Plan
from inf2kit.planning.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(plan: Plan, path: Path) -> list[Path]:
    """Draw a plan, and return the files that were written: one PNG and one SVG.

    Args:
        plan: The plan.
        path: The files' path, without a suffix.
    """
    prediction, preset = plan.prediction, plan.preset
    unit = "callers" if prediction.callers else "calls per second"
    title = f"{preset.name}, {prediction.instances} x {preset.compute.instance_type}"
    notice = f"Simulated by inf2kit plan, not measured; {plan.basis.source}. {plan.basis.notice}".strip()
    with charts.chart(title, panels=3, notice=notice) as (figure, (latency, first, failed)):
        for axes, name, label in (
            (latency, "request_latency", "request latency, s"),
            (first, "time_to_first_token", "time to first token, s"),
        ):
            series = {
                percentile: [
                    (_amount(each), getattr(each, name)[percentile].value)
                    for each in plan.sweep
                    if getattr(each, name)[percentile].value >= 0
                ]
                for percentile in ("p50", "p95", "p99")
            }
            charts.draw_lines(axes, series, unit, label)
            axes.set_ylim(bottom=0)
            _mark(axes, plan)
        shares = {
            "429": [(_amount(each), 100 * each.refused.value) for each in plan.sweep],
            "cut at the deadline": [(_amount(each), 100 * each.cut.value) for each in plan.sweep],
        }
        charts.draw_lines(failed, shares, unit, "calls, %")
        _mark(failed, plan)
        return charts.save(figure, path)


def _amount(prediction: Prediction) -> float:
    return float(prediction.callers or prediction.rate)


def _mark(axes: Axes, plan: Plan) -> None:
    """Mark the demand and the knee."""
    for prediction, label, dash in ((plan.prediction, "demand", "-"), (plan.knee, "knee", ":")):
        axes.axvline(_amount(prediction), color="black", linewidth=1, linestyle=dash)
        axes.annotate(
            label,
            (_amount(prediction), 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
