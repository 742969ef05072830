"""Writes docs/planning.md from the comparisons, so that no figure in it is typed by hand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from click.testing import CliRunner

from benchmarks.planning import rehearsal, runs, sensitivity
from benchmarks.planning.rehearsal import Cell
from benchmarks.planning.validation import Comparison
from inf2kit.cli import main
from inf2kit.planning import basis
from inf2kit.planning.capacity import HIGHEST_LOAD

RATES = f"rates up to {HIGHEST_LOAD:.0%} of the largest"
#: What is promised of each kind of load: the largest difference between predicted and measured.
PROMISES: dict[str, dict[str, float]] = {
    "closed loops and bursts": {"latency": 0.05, "tokens": 0.05, "itl": 0.10, "ttft": 0.15},
    RATES: {"latency": 0.20, "itl": 0.20},
    "host sampling": {"latency": 0.08},
}
_EXAMPLE = "plan llama2-7b-throughput --rate 1 --input 256 --new 220~90 --slo ttft=2,latency=30"
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

_HEAD = """# Planning capacity and cost

Written by `python -m benchmarks.planning --write-docs`; do not edit. `inf2kit plan` says how many instances a demand needs, what they
cost, what breaks first when the load grows, and the values for automatic scaling. This page says how it knows, and how wrong it is.

```console
$ inf2kit {example}
{output}
```

The demand is `--rate` (calls at random times) or `--callers` (who wait for their answer), with lengths as numbers, ranges (`100-500`), log-normal
distributions (`220~90`), or those of a `--trace`: CSV or JSON Lines with `input_tokens`, `new_tokens` and `time_s`; traces of Mooncake and Azure are read too.
`--slo` is what 19 of 20 calls must meet. `--json` has everything, with the sweep; `--chart` draws it.

## What is simulated

Each instance has the rows, the queue, the deadline and the prefills between two steps of the [scheduler](architecture.md), behind a router that sends a call to
the instance with the fewest calls inside. All rows wait for a prefill of `P` seconds and for a stall of `c` more; a step of `n` live rows takes `a + b n` seconds.
A unit test runs the real scheduler on a clock of its own: first and last tokens come at the same times as in the simulation. Steps between
two events are skipped, so that 100,000 calls on four instances take {speed:.1f} s here.

Every figure is the mean of several simulations with different seeds, and `±` is half of the 95 % confidence interval between them. That is the
error of the simulation. The error of the times is larger, and is below.

An instance counts as enough if 19 of 20 calls meet the objectives *after* the error to expect is added to the prediction, no more than 1 % are
refused or cut, and calls at random times take at most {highest:.0%} of the largest rate with the error of the throughput. The knee is the load with the most
throughput for its latency (Kleinrock's power).

The closed form is the cross-check: an engine that is never idle takes `P + c + (L-1)(a+bB)/B` seconds for a call of `L` new tokens. For callers who wait, its mean latency
is within {closed:.1%} of the simulation's, with half as many callers as rows, as many, and twice as many. For calls at random times another form holds below half of the load:

{forms}

## Where the times come from

| basis | latency, callers who wait | latency, calls at random times | first token | throughput |
|---|---|---|---|---|
{bases}

These are the errors that a plan allows for, in the direction that hurts: how much slower real calls may be. The first is
`inf2kit bench load ENDPOINT --calibrate`, whose file a plan uses by itself. Published figures are in `inf2kit/catalog/published/engines.csv`. Where the host chooses tokens, as it does
unless a model is compiled with `--on-device-sampling`, a single caller's step says nothing about full rows: a plan needs a loaded run, or the table of a full batch, and is refused without.

Why no latency is promised above {highest:.0%}: what 5 % too short times do at the same rate.

{sensitivity}

## Predicted against measured

Hugging Face's published runs of Llama on inf2 under load, 2024 to 2026, with optimum-neuron's own servers. The tools are simulated as their code is (`benchmarks/planning/drivers.py`): guidellm 0.1.0 keeps one call
fewer in flight than its "users", looks every 0.1 s, drops what has no answer after 120 s, and its "128 users" are a burst; LLMPerf sends in waves. Nothing is fitted on the
run that it is judged by. A prediction from *a single caller* takes `P` and `a` from the session's own run with one caller, and `c = 0.1 P`. One from *another loaded run*
takes `c` from it, or `b` where the host samples. One from *a table of one batch* takes all from a table of the same shape of another day.

A figure is the difference of the prediction from the measurement: mean of the absolute differences, and the worst.

{summary}

{kept}

The 95th percentiles are known of four raw reports (31 calls in flight, 1,500 input tokens; the calls' own lengths, in their order; from a single caller):

{raw}

### Each run

Measured, and the difference of the predictions in per cent. Latency and tokens are those of the tools: means, for waves medians.

{runs}

Left out: runs of a mixture of experts (two decimals only), one from another continent, one with failed calls, one whose table has a negative time, and one
session whose single caller is slower than eight (33 and 19 ms a token), so that nothing can be learnt from it. Waves of more than 256 callers only lengthen the queue.

## Where it fails, and why

{failures}

## The roofline against published engines

{roofline}

## This machine

{rehearsal}

## What is not in it

- Calls of several texts, `n`, and answers that continue a full row.
- Starts, failures and updates of instances; the scale-out delay is an input, and the growth meanwhile too.
- The model server and the gateway beyond what a calibration measures as `c` and as the round trip.
- The data that is sent, S3, CloudWatch; savings plans. Prices are those of `inf2kit prices`.
- A Neuron device that runs inf2kit: nobody has measured one. All figures of devices are other people's, with other servers.
"""


def write(
    path: Path, comparisons: Sequence[Comparison], raw: dict[str, dict[str, tuple[float, float]]]
) -> None:
    """Write the page."""
    seconds, _ = sensitivity.speed()
    cells = rehearsal.saved()
    text = _HEAD.format(
        example=_EXAMPLE,
        output=_example(),
        speed=seconds,
        highest=HIGHEST_LOAD,
        closed=sensitivity.closed_loop_error(),
        forms=_forms(),
        bases=_bases(),
        sensitivity=_sensitivity(),
        summary=_summary(comparisons),
        kept=_kept(comparisons, raw),
        raw=_raw(raw),
        runs=_runs(comparisons),
        failures=_failures(comparisons),
        roofline=_roofline(),
        rehearsal=_rehearsal(cells),
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
            errors = [found for each in comparisons if each.group == group and (found := each.errors(base))]
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


def _kept(comparisons: Sequence[Comparison], raw: dict[str, dict[str, tuple[float, float]]]) -> str:
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


def _rehearsal(cells: Sequence[Cell]) -> str:
    if not cells:
        return "Not measured yet: `python -m benchmarks.planning --rehearsal` measures a local endpoint on this machine's CPU."
    first = cells[0]
    rows = []
    for cell in cells:
        figures = []
        for name in ("latency_p50", "latency_p95", "ttft_p50", "ttft_p95", "tokens"):
            measured, predicted = cell.measured[name], cell.predicted[name]
            unit = "/s" if name == "tokens" else " s"
            figures.append(f"{measured:.3g}{unit} {_percent(predicted / measured - 1)}")
        rows.append((cell.demand, f"{cell.load:.0%}", *figures))
    errors = [
        abs(cell.predicted[name] / cell.measured[name] - 1)
        for cell in cells
        if cell.load <= HIGHEST_LOAD or not cell.is_open
        for name in ("latency_p50", "latency_p95")
    ]
    within = sum(error <= 0.155 for error in errors)
    return (
        f"A local endpoint, {first.preset} on {first.machine}, {first.date}: the real scheduler, gateway and model server with the CPU backend, its callers on the same cores. "
        f"{first.lengths}. The plan's times are those of `bench load --calibrate` on the same endpoint, before these runs.\n\n"
        + _table(
            ("load", "of the largest rate", "latency p50", "p95", "first token p50", "p95", "tokens"), rows
        )
        + f"\n\nOf the p50 and p95 of latency of closed loops and of rates up to {HIGHEST_LOAD:.0%}, {within} of {len(errors)} are within 15 %. {first.remark}".rstrip()
    )


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
