"""A faulty endpoint's report marks the load by the name of the fault, in every output."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inf2kit.bench.load import table
from inf2kit.bench.load.aiperf import to_aiperf
from inf2kit.bench.load.page import to_html
from inf2kit.bench.load.report import Report
from inf2kit.bench.load.samples import Load
from inf2kit.errors import Inf2KitError
from tests.helpers.fault_server import container_error, read_request
from tests.helpers.faulty_endpoint import FaultyEndpoint

#: What says something about the machine that runs the tests, and not about the double.
OF_THE_MACHINE = {"client_share", "late_sends", "littles_law"}


def names(report: Report) -> set[str]:
    return {finding.name for _, _, findings in report.measured() for finding in findings} - OF_THE_MACHINE


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (FaultyEndpoint(drop_every=20), "failures"),
        (FaultyEndpoint(stall_every=25), "stalls"),
        (FaultyEndpoint(streams=False), "no_streaming"),
        (FaultyEndpoint(counted=0.5), "token_counts"),
        (FaultyEndpoint(counted=20), "token_counts"),
        (FaultyEndpoint(generated=0.5), "output_lengths"),
        (FaultyEndpoint(input_tokens=1.1), "input_lengths"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_fault_is_marked_by_name(
    run_load: Callable[..., Report], endpoint: FaultyEndpoint, name: str
) -> None:
    report = run_load(endpoint)
    assert name in names(report)
    assert name in table.throughput_table(report)[1][-1]
    assert any(line.startswith(f"! {name} at 2 callers: ") for line in table.finding_lines(report))
    assert f"{name} at 2 callers: " in to_html(report)
    (cell,) = report.to_json()["cells"]
    assert name in {finding["name"] for finding in cell["checks"]}


def test_a_check_is_listed_once_with_the_loads_that_failed_it(run_load: Callable[..., Report]) -> None:
    """Its figures differ from load to load: 5 % of the calls failed, and 20 %."""
    slight, heavy = (run_load(FaultyEndpoint(drop_every=each)) for each in (20, 5))
    (few,), (many,) = slight.cells, heavy.cells
    report = replace(heavy, cells=(few, replace(many, load=Load("callers", 4))))
    lines = [line for line in table.finding_lines(report) if line.startswith("! failures")]
    assert len(lines) == 1
    assert lines[0].startswith("! failures at 2 callers, 4 callers: ")
    assert lines[0].endswith(" (figures of 4 callers)")
    assert to_html(report).count("calls failed") == 1
    assert [line for line in table.finding_lines(slight) if "figures of" in line] == []


def test_a_sound_endpoint_is_not_marked(run_load: Callable[..., Report], tmp_path: Path) -> None:
    report = run_load(FaultyEndpoint())
    # A machine may stand still for a second.
    assert names(report) - {"stalls"} == set()
    (cell,) = report.cells
    assert len(cell.samples) == 60
    assert {sample.generated_tokens for sample in cell.samples} == {10}
    # The file has everything, and everything but the samples is computed again.
    report.write(tmp_path / "load.json")
    assert Report.read(tmp_path / "load.json") == report


def test_a_call_that_fails_in_the_warm_up_ends_nothing(run_load: Callable[..., Report]) -> None:
    """The second stream is a call of the warm-up."""
    report = run_load(FaultyEndpoint(drop_every=2), calls=10)
    assert len(report.cells[0].ended) == 10


def test_failures_stand_beside_every_percentile(run_load: Callable[..., Report]) -> None:
    rows = table.percentile_table(run_load(FaultyEndpoint(drop_every=5)))
    assert len(rows) == 5
    for row in rows[1:]:
        assert "interrupted" in row[-1]
        assert row[-1].split()[0].isdigit()


@pytest.mark.parametrize("transport", ["async", "boto3"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_open_loop_by_each_transport(
    run_load: Callable[..., Report], transport: str, stream: bool
) -> None:
    report = run_load(FaultyEndpoint(), Load("rate", 60), 40, transport, stream)
    (cell,) = report.cells
    assert [sample.failure for sample in cell.samples] == [None] * 40
    assert all(bool(sample.chunk_s) is stream for sample in cell.samples)
    due = sorted(sample.due_s for sample in cell.samples)
    assert due == sorted(sample.due_s for sample in sorted(cell.samples, key=lambda each: each.number))
    again = run_load(FaultyEndpoint(), Load("rate", 60), 40, transport, stream)
    assert due == sorted(sample.due_s for sample in again.cells[0].samples), "arrivals have a seed"


def test_aiperfs_shape_and_units(run_load: Callable[..., Report]) -> None:
    report = run_load(FaultyEndpoint(drop_every=20))
    ((name, values),) = to_aiperf(report).items()
    assert name == "2-callers"
    (_, statistics, _) = next(report.measured())
    latency = values["request_latency"]
    assert latency["unit"] == "ms"
    assert latency["p95"] == pytest.approx(1000 * statistics["request_latency"].percentiles[95])
    assert set(latency) == {
        "unit", "avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99",
    }  # fmt: skip
    assert values["output_token_throughput"]["unit"] == "tokens/sec"
    assert values["error_summary"][0]["error_details"]["type"].startswith("interrupted")
    assert values["inf2kit"]["concurrency"] == 2
    assert values["output_token_throughput_per_user"]["unit"] == "tokens/sec/user"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": "inf2kit.bench.load/9"}', '{"schema": "inf2kit.bench.load/1"}']
)
def test_what_is_no_report_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "load.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Inf2KitError, match=r"is no report of 'inf2kit bench load'"):
        Report.read(path)


@pytest.mark.parametrize(
    ("code", "sampling"), [("", "host"), ("unsupported_parameter", "device"), ("queue_full", "")]
)
def test_whether_a_seed_is_taken_tells_where_tokens_are_chosen(
    run_load: Callable[..., Report], code: str, sampling: str
) -> None:
    endpoint, refusal = FaultyEndpoint(), container_error(422, {"error": "no", "error_type": code})

    def answer(connection: socket.socket, is_stream: bool) -> None:
        asks_for_a_seed = b'"seed"' in read_request()[1]
        (refusal if code and asks_for_a_seed else endpoint)(connection, is_stream)

    assert run_load(answer).sampling == sampling
