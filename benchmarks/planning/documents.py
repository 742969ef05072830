"""Writes docs/planning.md from the comparisons, so that no figure in it is typed by hand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from click.testing import CliRunner

from benchmarks.planning import rehearsal, runs, sensitivity
from benchmarks.planning.validation import Comparison
from inf2kit.cli.commands import main
from inf2kit.planning import basis
from inf2kit.planning.capacity import HIGHEST_LOAD

RATES = f"rates up to {HIGHEST_LOAD:.0%} of the largest"
#: What is promised of each kind of load: the largest difference between predicted and measured.
PROMISES: dict[str, dict[str, float]] = {
    "closed loops and bursts": {"latency": 0.05, "tokens": 0.05, "itl": 0.10, "ttft": 0.15},
    RATES: {"latency": 0.20, "itl": 0.20},
    "host sampling": {"latency": 0.08},
}
_EXAMPLE = "plan llama2-7b-throughput --rate 1 --new-tokens 220~90 --slo ttft=2,latency=30"
_RAW = {
    "std-8b-ods-true": "device sampling, standard prefill",
    "hybrid-ods-8b": "device sampling, chunked prefill",
    "std-8b-v2": "host sampling, standard prefill",
    "chunked-8b-v2": "host sampling, chunked prefill",
}
_NAMES = {
    "latency": "latency",
    "ttft": "first token",
    "itl": "between tokens",
    "tokens": "tokens/s",
    "ttft_p50": "first token, p50",
    "per_token_p50": "latency per token, p50",
}
_BASES = {"alone": "a single caller", "loaded": "another loaded run", "table": "a table of one batch"}

_PAGE = Path(__file__).with_name("page.md")


def write(
    path: Path, comparisons: Sequence[Comparison], raw: dict[str, dict[str, tuple[float, float]]]
) -> None:
    """Write the page."""
    seconds, _ = sensitivity.speed()
    text = _PAGE.read_text(encoding="utf-8").format(
        example=_EXAMPLE,
        output=_example(),
        speed=seconds,
        highest=HIGHEST_LOAD,
        closed=sensitivity.closed_loop_error(),
        forms=_forms(),
        bases=_bases(),
        sensitivity=_sensitivity(),
        summary=_summary(comparisons),
        promises=_promises(comparisons, raw),
        raw=_raw(raw),
        runs=_runs(comparisons),
        failures=_failures(comparisons),
        roofline=_roofline(),
        rehearsal=_rehearsals(),
    )
    path.write_text(text, encoding="utf-8")


def _example() -> str:
    result = CliRunner().invoke(main, _EXAMPLE.split(), env={"INF2KIT_HOME": "/nonexistent"})
    if result.exit_code:
        raise RuntimeError(result.output)
    return result.output.rstrip()


def _forms() -> str:
    rows = []
    for name, engine in sensitivity.ENGINES.items():
        cells = []
        for load in (0.3, 0.5, 0.7, 0.85):
            latency, _, form = sensitivity.open_loop(engine, load)
            cells.append(f"{form / latency - 1:+.0%}")
        rows.append((name, *cells))
    return _table(
        ("latency of the closed form, by that of the simulation", "30 %", "50 %", "70 %", "85 %"), rows
    )


def _sensitivity() -> str:
    rows = []
    for name, engine in sensitivity.ENGINES.items():
        cells = []
        for load in (0.3, 0.7, 0.85, 0.95):
            latency, first = sensitivity.faster(engine, load, 0.05)
            cells.append(f"{latency:+.0%}, {first:+.0%}")
        rows.append((name, *cells))
    return _table(("latency, first token at a load of", "30 %", "70 %", "85 %", "95 %"), rows)


def _bases() -> str:
    rows = (
        ("your own calibration", basis.MEASURED),
        ("published figures of the same model and shape", basis.PUBLISHED),
        ("the roofline: sizes alone", basis.ESTIMATED),
    )
    return "\n".join(
        f"| {name} | {errors.latency:.0%} | {errors.open_latency:.0%} | {errors.first_token:.0%} | {errors.throughput:.0%} |"
        for name, errors in rows
    )


def _summary(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for group in dict.fromkeys(each.group for each in comparisons):
        for base, words in _BASES.items():
            errors = [error for each in comparisons if each.group == group and (error := each.errors(base))]
            if not errors:
                continue
            names = (
                ("ttft_p50", "per_token_p50", "tokens")
                if group == "waves"
                else ("latency", "ttft", "itl", "tokens")
            )
            cells = []
            for name in names:
                values = [error[name] for error in errors if name in error]
                mean = statistics.fmean(map(abs, values))
                cells.append(f"{100 * mean:.1f} ({100 * max(values, key=abs):+.0f})")
            if group == "waves":
                cells = [cells[1] + " per token", cells[0] + " p50", "-", cells[2]]
            rows.append((group, words, str(len(errors)), *cells))
    return _table(
        ("runs", "from", "number", "latency, %", "first token, %", "between tokens, %", "tokens/s, %"), rows
    )


def _promises(comparisons: Sequence[Comparison], raw: dict[str, dict[str, tuple[float, float]]]) -> str:
    lines = []
    for group, promise in PROMISES.items():
        base = "loaded" if group == "host sampling" else "alone"
        for name, most in promise.items():
            judged = [
                (each, error[name])
                for each in comparisons
                if each.group == group and name in (error := each.errors(base))
            ]
            outside = [
                f"{each.run.label} {each.run.version} {each.run.demand} {error:+.0%}"
                for each, error in judged
                if abs(error) > most + 0.005
            ]
            lines.append(
                f"- {group}, {_NAMES[name]} within {most:.0%} from {_BASES[base]}: {len(judged) - len(outside)} of {len(judged)} runs"
                + (f"; outside: {'; '.join(outside)}" if outside else "")
            )
    p95 = [raw[run]["latency_p95"] for run in _RAW if "device" in _RAW[run]]
    errors = [predicted / measured - 1 for measured, predicted in p95]
    within = sum(abs(error) <= 0.105 for error in errors)
    lines.append(
        f"- 95th percentile of the latency within 10% from a single caller, device sampling: {within} of {len(errors)} raw reports ({', '.join(f'{error:+.0%}' for error in errors)})"
    )
    above = [each for each in comparisons if each.group.startswith("rates above")]
    lines.append(
        f"- {len(above)} of the rates are above {HIGHEST_LOAD:.0%} of the largest rate that a single caller's times give, where a plan prints no latency"
    )
    return "Promised, and kept:\n\n" + "\n".join(lines)


def _raw(raw: dict[str, dict[str, tuple[float, float]]]) -> str:
    names = {
        "latency": "mean",
        "latency_p50": "p50",
        "latency_p95": "p95",
        "ttft": "first token, mean",
        "ttft_p50": "p50",
        "ttft_p95": "p95",
    }
    rows = [
        (
            words,
            *(
                f"{raw[run][name][0]:.2f} s {_percent(raw[run][name][1] / raw[run][name][0] - 1)}"
                for name in names
            ),
        )
        for run, words in _RAW.items()
    ]
    return _table(
        ("run", *(f"latency, {word}" if index == 0 else word for index, word in enumerate(names.values()))),
        rows,
    )


def _runs(comparisons: Sequence[Comparison]) -> str:
    parts = []
    for group in dict.fromkeys(each.group for each in comparisons):
        chosen = [each for each in comparisons if each.group == group]
        rows = []
        for each in chosen:
            run = each.run
            if group == "waves":
                measured = (
                    f"{1000 * (run.itl or math.nan):.1f} ms",
                    f"{run.ttft_p50 or math.nan:.2f} s",
                    f"{run.tokens or math.nan:.0f}/s",
                )
                names: tuple[str, ...] = ("per_token_p50", "ttft_p50", "tokens")
            else:
                measured = (
                    f"{run.latency or math.nan:.2f} s",
                    f"{run.ttft or math.nan:.2f} s",
                    f"{1000 * (run.itl or math.nan):.1f} ms",
                    f"{run.tokens or math.nan:.0f}/s",
                )
                names = ("latency", "ttft", "itl", "tokens")
            predictions = [each.errors(base) for base in _BASES]
            cells = [
                f"{value} {' '.join(_percent(error[name]) if name in error else '' for error in predictions if error)}".rstrip()
                for value, name in zip(measured, names, strict=True)
            ]
            load = "" if math.isnan(each.load) else f", {each.load:.0%} load"
            known = "/".join(
                word for base, word in (("alone", "s"), ("loaded", "l"), ("table", "t")) if each.errors(base)
            )
            rows.append((run.label, run.version, run.demand + load, known, *cells))
        heads = (
            ("latency per token", "first token", "tokens")
            if group == "waves"
            else ("latency", "first token", "between tokens", "tokens")
        )
        title = group[0].upper() + group[1:]
        if group.startswith("TGI") or group == "waves":
            parts.append(
                f"<details><summary>{title} ({len(rows)} runs)</summary>\n\n{_table(('engine', 'version', 'load', 'from', *heads), rows)}\n\n</details>"
            )
        else:
            parts.append(f"**{title}**\n\n{_table(('engine', 'version', 'load', 'from', *heads), rows)}")
    note = "`from`: the order of the predictions: s a single caller, l another loaded run, t a table of one batch."
    return note + "\n\n" + "\n\n".join(parts)


def _failures(comparisons: Sequence[Comparison]) -> str:
    def span(group: str, name: str, base: str = "alone", version: str = "") -> str:
        values = [
            error[name]
            for each in comparisons
            if each.group == group and version in each.run.version and name in (error := each.errors(base))
        ]
        return f"{min(values):+.0%} to {max(values):+.0%}"

    tgi = [each.run.itl * 1000 for each in comparisons if each.group == "TGI rates" and each.run.itl]
    slowest, fastest = (
        max(tgi),
        min(
            1000 * (session[0].itl or math.inf)
            for session in runs.sessions()
            if "TGI" in session[0].server and session[0].engines == 3
        ),
    )
    return "\n".join(
        (
            f"- **Sampling on the host** ({span('host sampling', 'latency')} from a single caller): the logits of every row go to the host at each step, 0.8 to 2 ms a row, and a single caller shows one row. "
            f"With one loaded run of the other setting: {span('host sampling', 'latency', 'loaded')}. So a plan without a loaded run is refused.",
            f"- **Constant rates** ({span(RATES, 'latency')}): below {HIGHEST_LOAD:.0%} they are predicted too fast. A call that comes alone costs the measured server a pass of its own, and one that comes in a burst does not. "
            "A stall that was fitted on a burst does not know that either. Calibrations that were measured at a rate would.",
            f"- **First tokens of bursts on three and four engines** (up to {span('closed loops and bursts', 'ttft').split(' to ')[1]}, two of the sessions on trn1): they were faster than one prefill after the other allows, so that the single caller's prefill is not the warm one. "
            "Its mean has the first call of each engine in it, which takes 1 to 2 s more. Warm up every instance before measuring, as `bench load --calibrate` does.",
            f"- **TGI of 2024 and May 2025 at rates** ({span('TGI rates', 'latency')}): its tokens came up to {slowest:.0f} ms apart when calls came one by one, for a single caller {fastest:.0f} ms. It is another scheduler, whose rows wait for each other. Of its last release, bursts are right ({span('TGI bursts', 'latency', version='0.2.0 (TGI')}) and rates are not ({span('TGI rates', 'latency', version='0.2.0 (TGI')}).",
            f"- **Long prompts** of 15,900 tokens ({span('long prompts', 'latency')} from a single caller, {span('long prompts', 'latency', 'loaded')} from the other run): two runs, with a server that waited before it took prompts in.",
            f"- **Waves** (tokens/s {span('waves', 'tokens')}): LLMPerf is idle between its waves while it makes prompts, and staggers their start, by an unknown time. The latency of each token is right where one engine serves; with three behind nginx, the stagger decides the first token.",
            f"- **Tables of one batch** ({span('closed loops and bursts', 'latency', 'table')} for closed loops and bursts): a table's step is that of growing texts, rounded to a millisecond. All but a few are too slow, which is the side that does not hurt.",
        )
    )


def _roofline() -> str:
    eras = {
        "2023 and January 2024, the image's predecessors": ("2023", "2024-01", "2024-02"),
        "April 2024 to September 2024": ("2024-04", "2024-06", "2024-09"),
        "2025 and 2026, device sampling or not said": ("2025", "2026"),
    }
    errors = sensitivity.roofline_errors()
    rows = []
    for name, dates in eras.items():
        chosen = [each for each in errors if each[0].date.startswith(dates) and each[0].sampling != "host"]
        cells = []
        for column in (1, 2):
            values = [each[column] for each in chosen]
            cells.append(
                f"{100 * statistics.fmean(map(abs, values)):.0f} ({100 * min(values):+.0f} to {100 * max(values):+.0f})"
            )
        rows.append((name, str(len(chosen)), *cells))
    host = [each[2] for each in errors if each[0].sampling == "host"]
    rows.append(
        (
            "sampling on the host, which it does not know",
            str(len(host)),
            "",
            f"{100 * statistics.fmean(map(abs, host)):.0f} ({100 * min(host):+.0f} to {100 * max(host):+.0f})",
        )
    )
    return (
        "Its shares of bandwidth and arithmetic were chosen by these engines, so this is no test of it. The oldest releases encoded prompts in another way, several times as long.\n\n"
        + _table(("published engines", "number", "prefill: mean difference, %", "step, %"), rows)
    )


def _rehearsals() -> str:
    sections = {
        "cpu": "the CPU backend, its callers on the same cores. The plan's times are those of `bench load --calibrate` on the same endpoint, before these runs",
        "simulated": "the simulated backend, which takes set times. The plan's times are these, so that the difference is the stack's and the simulation's",
    }
    return "\n\n".join(_rehearsal(kind, words) for kind, words in sections.items())


def _rehearsal(kind: str, words: str) -> str:
    cells = rehearsal.saved(kind)
    if not cells:
        return f"Not measured yet with the {kind} backend: `python -m benchmarks.planning --rehearsal {kind}` measures a local endpoint on this machine."
    first = cells[0]
    rows = []
    for cell in cells:
        figures = []
        for name in ("latency_p50", "latency_p95", "ttft_p50", "ttft_p95", "tokens"):
            measured, predicted = cell.measured[name], cell.predicted[name]
            unit = "/s" if name == "tokens" else " s"
            figures.append(f"{measured:.3g}{unit} {_percent(predicted / measured - 1)}")
        rows.append((cell.demand, f"{cell.load:.0%}", f"{cell.calls}, {cell.failed}", *figures))
    judged = [cell for cell in cells if cell.load <= HIGHEST_LOAD or not cell.is_open]
    errors = [
        cell.predicted[name] / cell.measured[name] - 1
        for cell in judged
        for name in ("latency_p50", "latency_p95")
    ]
    within = sum(abs(error) <= 0.15 for error in errors)
    summary = f"In closed loops and at rates up to {HIGHEST_LOAD:.0%}, {within} of the {len(errors)} p50 and p95 of latency are within 15 %."
    table = _table(
        (
            "load",
            "of the largest rate",
            "calls, failed",
            "latency p50",
            "p95",
            "first token p50",
            "p95",
            "tokens",
        ),
        rows,
    )
    return (
        f"A local endpoint of {first.preset} on {first.machine}, {first.date}, {first.lengths}: the real scheduler, gateway and streams with {words}.\n\n"
        f"{table}\n\n{summary} {first.remark}".rstrip()
    )


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
