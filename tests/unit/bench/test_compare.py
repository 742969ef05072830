"""Two runs of the same differ by chance only, and a real difference is shown."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.bench.compare import ALPHA, Comparison, compare, differences
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Cell, Load, Sample
from inf2kit.cli.commands import main


def report(
    seed: int,
    latency_s: float = 1.0,
    failed: int = 0,
    calls: int = 200,
    workload: str = "w",
    sampling: str = "host",
) -> Report:
    """Four callers whose calls take ``latency_s``, a fifth more or less."""
    generator = random.Random(seed)
    samples, ends_s = [], [0.0] * 4
    for number in range(calls):
        caller = ends_s.index(min(ends_s))
        sent_s = ends_s[caller]
        ends_s[caller] += latency_s * generator.uniform(0.8, 1.2)
        chunks = (sent_s + 0.1 * latency_s, ends_s[caller])
        failure = "busy" if number % 20 < failed else None
        samples.append(
            Sample(
                number,
                sent_s,
                sent_s,
                ends_s[caller],
                chunks,
                generated_tokens=11,
                characters=44,
                words=2,
                failure=failure,
            )
        )
    cell = Cell(Load("callers", 4), tuple(samples), "2026-01-01T00:00:00+00:00", min(ends_s), streamed=True)
    began = "2026-01-01T00:00:00+00:00"
    return Report("e", "here", "machine", "async", workload, {}, 0, began, "0", (), (cell,), sampling)


def by_metric(comparisons: list[Comparison]) -> dict[str, Comparison]:
    return {each.metric: each for each in comparisons}


def test_a_real_difference_is_shown_with_its_size() -> None:
    comparisons = by_metric(compare(report(1), report(2, latency_s=1.2)))
    latency, rate = comparisons["request_latency"], comparisons["output_token_throughput"]
    assert latency.is_shown
    assert latency.interval
    assert latency.interval[0] < 0.2 < latency.interval[1]
    assert latency.verdict.endswith("% slower")
    assert rate.verdict.endswith("fewer tokens/s")
    assert "failed calls" not in comparisons
    back = by_metric(compare(report(2, latency_s=1.2), report(1)))
    assert back["request_latency"].verdict.endswith("% faster")


def test_runs_of_the_same_seldom_differ() -> None:
    """Of forty pairs two may, by the probability that the comparison promises; four would be a fault."""
    shown = sum(any(each.is_shown for each in compare(report(2 * n), report(2 * n + 1))) for n in range(40))
    assert shown <= 40 * ALPHA + 2
    assert compare(report(1), report(1))[0].verdict == "no difference shown"


def test_failed_calls_are_compared_too() -> None:
    comparison = by_metric(compare(report(1), report(2, failed=3)))["failed calls"]
    assert (comparison.first, comparison.second) == (0, 0.15)
    assert comparison.verdict == "more calls fail"
    assert by_metric(compare(report(1, failed=1), report(2, failed=1)))["failed calls"].verdict == (
        "no difference shown"
    )


def test_too_few_calls_say_nothing() -> None:
    assert compare(report(1, calls=12), report(2, calls=12)) == []


def test_what_else_differs_is_said() -> None:
    assert differences(report(1), report(2)) == []
    (workload, failures) = differences(report(1), report(2, failed=3, workload="v"))
    assert "different workloads: 'w' and 'v'" in workload
    assert "4 callers of the second run failed checks: failures" in failures


def test_packages_that_choose_tokens_in_different_places_are_named(tmp_path: Path) -> None:
    host, device = report(1), report(2, latency_s=0.9, sampling="device")
    assert differences(host, device) == [
        "the runs have different places where tokens are chosen: 'host' and 'device'"
    ]
    host.write(tmp_path / "a.json")
    device.write(tmp_path / "b.json")
    output = CliRunner().invoke(main, ["bench", "compare", *map(str, sorted(tmp_path.iterdir()))]).output
    a, b = output.splitlines()[:2]
    assert "tokens chosen on the host" in a
    assert "tokens chosen on the device" in b
    values = json.loads((tmp_path / "a.json").read_bytes())
    del values["sampling"]
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    assert Report.read(tmp_path / "a.json").sampling == "", "a report of an earlier release"


def test_the_command(tmp_path: Path) -> None:
    report(1).write(tmp_path / "a.json")
    report(2, latency_s=1.3).write(tmp_path / "b.json")
    arguments = ["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "% slower" in result.output
    values = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert {each["metric"] for each in values["comparisons"]} >= {"request_latency"}


@pytest.mark.parametrize("calls", [2, 12])
def test_the_command_without_a_comparison_is_a_sentence(tmp_path: Path, calls: int) -> None:
    report(1, calls=calls).write(tmp_path / "a.json")
    result = CliRunner().invoke(main, ["bench", "compare", *[str(tmp_path / "a.json")] * 2])
    assert result.exit_code == 1
    assert "have no load in common with enough calls" in result.output
