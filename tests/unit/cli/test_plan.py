"""``inf2kit plan``: its text, its JSON, its chart, and a sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main
from inf2kit.planning import trace

PLAN = ["plan", "llama2-7b-throughput"]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))


def test_a_plan_says_what_it_rests_on_and_what_to_deploy() -> None:
    result = CliRunner().invoke(
        main, [*PLAN, "--rate", "1", "--new-tokens", "220~90", "--slo", "ttft=2,latency=30"]
    )
    assert result.exit_code == 0, result.output
    for part in (
        "x ml.inf2.48xlarge for llama2-7b-throughput: 1 call a second, 256 input",
        "and 220~90 new tokens, streamed",
        "an instance ends streams at 470 s",
        "published figures of the same model and shape",
        "error to expect",
        "cdk deploy -c min_instances=",
        "target_concurrency=",
        "'ml.inf2.48xlarge for endpoint usage' (L-286C98BC)",
        "a month",
        "knee at",
        "SIDE BY SIDE",
        "llama2-7b-budget",
    ):
        assert part in result.output


def test_a_plan_as_json_is_strict_and_has_the_sweep(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    lines = [
        "time_s,input_tokens,new_tokens",
        *(f"{index / 2},{100 + index},{50 + index}" for index in range(60)),
    ]
    path.write_text("\n".join(lines))
    result = CliRunner().invoke(main, [*PLAN, "--trace", str(path), "--json", "--seeds", "2"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output, parse_constant=pytest.fail)
    assert document["demand"]["rate"] == pytest.approx(2.0)
    assert document["demand"]["mean_input_tokens"] == pytest.approx(129.5)
    assert document["prediction"]["instances"] == document["instances"] >= 1
    assert len(document["sweep"]) > 5
    apart = document["cost"]["usd_per_million_apart"]
    assert document["cost"]["usd_per_million_new_tokens_at_the_knee"] > 0
    hours = document["cost"]["usd_per_hour"] / 3600 / document["prediction"]["request_throughput"]["value"]
    each = apart["input"] * 129.5 + apart["new"] * 79.5
    assert each / 1e6 == pytest.approx(hours, rel=0.1)


def test_more_callers_than_an_instance_holds_and_answers_of_one_token() -> None:
    result = CliRunner().invoke(
        main, [*PLAN, "--callers", "100", "--new-tokens", "1", "--json", "--seeds", "2"]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.output, parse_constant=pytest.fail)
    assert document["instances"] >= 3
    assert document["prediction"]["inter_token_latency"]["value"] is None


def test_answers_too_long_to_be_whole_are_planned_as_streams() -> None:
    long = ["plan", "llama2-7b-budget", "--rate", "0.005", "--new-tokens", "1000", "--seeds", "2"]
    whole = CliRunner().invoke(main, long)
    assert whole.exit_code == 1
    assert "cut at 55 s" in whole.output
    assert "stream them (--stream)" in whole.output
    streamed = CliRunner().invoke(main, [*long, "--stream", "--json"])
    assert streamed.exit_code == 0, streamed.output
    document = json.loads(streamed.output)
    assert document["prediction"]["cut"]["value"] == 0
    assert document["prediction"]["over_60_s"]["value"] > 0.5
    assert document["longest_answer_tokens"] > 1500


def test_a_plan_is_drawn(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, [*PLAN, "--callers", "6", "--seeds", "2", "--chart", str(tmp_path / "plan")]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "plan.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "how much is asked? Give --rate, --callers, or a --trace with times"),
        (["--rate", "1", "--callers", "2"], "give --rate or --callers, not both"),
        (["--rate", "0"], "0"),
        (["--rate", "inf"], "inf is no number of calls per second"),
        (["--rate", "nan"], "nan"),
        (["--rate", "5000"], "an endpoint of inf2kit has at most 100"),
        (["--callers", "100000"], "need at least 2778 instances"),
        (["--rate", "1", "--input-tokens", "4000"], "refuses those of more than 2047"),
        (["--rate", "1", "--new-tokens", "500-100"], "write 100-500"),
        (["--rate", "1", "--input-tokens", "many"], "'many' is no length"),
        (["--rate", "1", "--slo", "tfft=1"], "did you mean 'ttft'?"),
        (["--rate", "1", "--slo", "ttft=soon"], "write ttft=1,latency=30"),
        (["--rate", "1", "--slo", "ttft=1", "--no-stream"], "a limit of ttft needs streamed answers"),
        (["--rate", "1", "--new-tokens", "12.5"], "parts of a token"),
        (["--rate", "1", "--slo", "ttft=0.01"], "no number of instances gives a first token in time"),
        (["--rate", "1", "--instance-type", "ml.inf2.xlarge"], "does not run on 'ml.inf2.xlarge'"),
        (["--rate", "1", "--calibration", "{folder}/none.toml"], "is no calibration"),
        (["--trace", "{folder}/none.csv"], "cannot be read"),
        (["--trace", "{folder}/lengths.jsonl"], "the trace has no times"),
        (["--trace", "{folder}/broken.jsonl"], "line 2 is no JSON"),
        (["--trace", "{folder}/empty.csv"], "has no calls"),
        (["--trace", "{folder}/unnamed.csv"], "line 2: there is no input_tokens"),
        (["--rate", "1", "--chart", "{folder}/none/plan"], "is no folder"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    call = '{"input_tokens": 5, "new_tokens": 5}'
    (tmp_path / "lengths.jsonl").write_text(call)
    (tmp_path / "broken.jsonl").write_text(f"{call}\nfive")
    (tmp_path / "empty.csv").write_text("input_tokens,new_tokens\n")
    (tmp_path / "unnamed.csv").write_text("in,out\n5,5\n")
    result = CliRunner().invoke(main, [*PLAN, *(part.format(folder=tmp_path) for part in arguments)])
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_traces_of_others_are_understood(tmp_path: Path) -> None:
    mooncake = tmp_path / "mooncake.jsonl"
    mooncake.write_text(
        "\n".join(f'{{"timestamp": {500 * n}, "input_length": 300, "output_length": 40}}' for n in range(9))
    )
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "\n".join(f"2023-11-16 18:15:{n:02d}.6805900,300,40" for n in range(0, 18, 2))
    )
    for path, rate in ((mooncake, 2.0), (azure, 0.5)):
        calls = trace.read(path)
        assert calls.rate == pytest.approx(rate)
        assert (calls.input_tokens, calls.new_tokens) == ((300,) * 9, (40,) * 9)
