"""The arithmetic of the tables, and that no cell with wrong lengths is shown as a good one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from inf2kit.bench.tables.aggregate import aggregate
from inf2kit.bench.tables.output import write
from inf2kit.bench.tables.render import csv_text, markdown, optimum_json
from inf2kit.bench.tables.samples import Measurement
from inf2kit.errors import Inf2KitError
from tests.helpers.recorded_tables import ROWS, measurement, published_s, sample


def test_the_published_latencies_give_the_published_throughput() -> None:
    tables = aggregate(measurement())
    assert [entry.median for entry in tables.encoding] == [0.9, 1.6, 3.3]
    assert [entry.median for entry in tables.end_to_end] == [2.7, 5.3, 7.7]
    # The post divides batch_size x sequence_length, 256 + new tokens, by a latency that it then rounds.
    throughput = [entry.median for entry in tables.throughput]
    assert throughput == pytest.approx([4 * 512 / 2.7, 4 * 768 / 5.3, 4 * 1024 / 7.7])
    assert [entry.published for entry in tables.throughput] == [750, 579, 529]
    assert [entry.ratio for entry in tables.throughput] == pytest.approx([1, 1, 1], abs=0.012)
    assert [entry.ratio for entry in (*tables.encoding, *tables.end_to_end)] == [1] * 6
    new_only = [entry.median for entry in tables.output_token_throughput]
    assert new_only == pytest.approx([4 * 256 / 2.7, 4 * 512 / 5.3, 4 * 768 / 7.7])
    assert [entry.ratio for entry in tables.output_token_throughput] == pytest.approx([1, 1, 1])


def test_runs_have_a_median_and_a_spread_and_the_round_trip_is_apart() -> None:
    samples = [sample(256, 256, run, latency_s=seconds) for run, seconds in enumerate((3.1, 2.9, 5.0), 1)]
    tables = aggregate(measurement(samples, runs=3, round_trips_s=[0.5, 0.4, 0.1]))
    entry, *_ = tables.end_to_end
    assert (entry.median, entry.min, entry.max, entry.good) == (3.1, 2.9, 5.0, 3)
    assert tables.round_trip_s == 0.4
    assert entry.ratio == pytest.approx((3.1 - 0.4) / 2.7)
    assert tables.throughput[0].median == pytest.approx(4 * 512 / 3.1)
    assert tables.throughput[0].ratio == pytest.approx(4 * 512 / 2.7 / 750)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"counted_new_tokens": (371, 512, 512, 512)}, "the server counted 371 new tokens instead of 512"),
        ({"counted_input_tokens": (255,) * ROWS}, "the server counted 255 input tokens instead of 256"),
        ({"counted_new_tokens": (512,) * 3}, "3 answers to 4 prompts"),
        (
            {"finish_reasons": ("length", "time_limit", "length", "length"), "latency_s": 55.2},
            "the endpoint's deadline ended it after 55 s",
        ),
        ({"latency_s": None, "error": "the endpoint is full"}, "failed: the endpoint is full"),
    ],
)
def test_a_wrong_call_is_marked_and_does_not_count(changed: dict[str, object], sentence: str) -> None:
    tables = aggregate(measurement([sample(256, 512, **changed)]))
    for entry in (tables.end_to_end[1], tables.throughput[1], tables.output_token_throughput[1]):
        assert (entry.median, entry.ratio, entry.good) == (None, None, 0)
        assert sentence in entry.remarks[0]
        assert entry.remarks[0].startswith("1 of 1 runs: ")
    good = aggregate(measurement([sample(256, 512, 1, **changed), sample(256, 512, 2)], runs=2)).end_to_end[1]
    assert (good.median, good.good) == (published_s(256, 512), 1)
    assert good.remarks[0].startswith("1 of 2 runs: ")


def test_what_was_not_measured_says_why() -> None:
    short = aggregate(measurement([], sequence_length=600, max_context_length=599))
    assert [entry.remarks for entry in short.encoding] == [
        ("not measured: the benchmark was interrupted",),
        ("not measured: the benchmark was interrupted",),
        ("too short: a prompt may have 599 tokens",),
    ]
    assert short.end_to_end[1].remarks == ("too short: a row has 600 tokens",)
    skipped = aggregate(measurement([], left_out={"256x768": "skipped: it is too long"}))
    assert skipped.end_to_end[2].remarks == ("skipped: it is too long",)


def test_a_streamed_cell_says_so() -> None:
    tables = aggregate(measurement([sample(256, 768, streamed=True)]))
    assert tables.end_to_end[2].remarks == ("streamed, 4 calls at once rather than one with 4 prompts",)


def test_a_preset_without_published_tables_has_no_ratio() -> None:
    entry = aggregate(measurement(preset="smollm2-135m-local")).end_to_end[0]
    assert (entry.median, entry.published, entry.ratio) == (2.7, None, None)


def test_every_output_says_what_is_simulated(tmp_path: Path) -> None:
    files = write(measurement(), tmp_path / "new", charts=False)
    assert {path.name for path in files} == {
        "tables.json",
        "tables.md",
        "tables.csv",
        "optimum-neuron.json",
    }
    for path in files:
        assert "simulated: recorded" in path.read_text(encoding="utf-8"), path.name


def test_a_result_has_its_samples_first_and_is_read_again(tmp_path: Path) -> None:
    (path, *_) = write(measurement(left_out={"256x768": "why"}, round_trips_s=[0.1]), tmp_path, charts=False)
    assert list(json.loads(path.read_text(encoding="utf-8")))[:2] == ["schema", "samples"]
    assert Measurement.read(path) == measurement(left_out={"256x768": "why"}, round_trips_s=[0.1])


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "inf2kit.bench.tables/0"}', '{"schema": 1}'])
def test_another_file_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(Inf2KitError, match="is no result of 'inf2kit bench tables'"):
        Measurement.read(tmp_path / "x.json")


def test_markdown_and_csv_have_the_same_figures() -> None:
    wrong = sample(256, 512, counted_new_tokens=(1,) * ROWS)
    result = measurement([sample(256, 1), wrong])
    tables = aggregate(result)
    page = markdown(result, tables)
    assert "| 256 | 0.9 | 0.9 to 0.9 | 1 | 0.9 | 1.00 |" in page
    assert "| 512 | - [2] | - | 0 | 5.3 | - |" in page
    assert "[2] 1 of 1 runs: the server counted 1 new tokens instead of 512." in page
    rows = list(csv.DictReader(io.StringIO(csv_text(result, tables))))
    assert len(rows) == 12
    assert (rows[0]["table"], rows[0]["median"], rows[0]["ratio"]) == ("encoding", "0.9", "1.0")
    assert (rows[4]["median"], rows[4]["good_runs"]) == ("", "0")


def test_optimum_neurons_own_form() -> None:
    result = measurement()
    value = json.loads(optimum_json(result, aggregate(result)))
    first, second, third = value["results"]
    assert value["neuron_config"]["batch_size"] == ROWS
    assert [each["input_length"] for each in value["results"]] == [256, 512, 768]
    assert [each["encoding_time"] for each in value["results"]] == [0.9, 1.6, 3.3]
    # As gen_barcharts.py reads it: seconds, and input and new tokens a second.
    assert [each["latency"] for each in first["generations"]] == [2.7, 5.3, 7.7]
    assert first["generations"][0]["throughput"] == pytest.approx(4 * 512 / 2.7)
    # As benchmark.py writes it: milliseconds a token, and new tokens a second.
    assert first["latency"] == pytest.approx((2.7 - 0.9) / 256 * 1000)
    assert first["throughput"] == pytest.approx(4 * 256 / 2.7)
    assert second["generations"] == third["generations"] == []
