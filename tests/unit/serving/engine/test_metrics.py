"""The metrics, and their summary for the log."""

from __future__ import annotations

from inf2kit.serving.engine.admission import Admission
from inf2kit.serving.engine.metrics import (
    EngineMetrics,
    GatewayMetrics,
    join_engines,
    parse_engine_samples,
    parse_samples,
    summarize,
)


def test_the_metrics_of_gateway_and_engine_are_one_text_for_prometheus() -> None:
    gateway, engine = GatewayMetrics(), EngineMetrics(8)
    gateway.record_call(200)
    gateway.record_call(429, "queue_full")
    engine.prompt_tokens.inc(5)
    engine.step.observe(0.5)
    engine.finished("length")
    admission = Admission(12)
    admission.admit(3)
    samples = parse_samples(gateway.text(ready=True, restarts=2, admission=admission) + engine.text())
    assert samples["inf2kit_calls_total"] == 2
    assert samples["inf2kit_rejected_calls_total"] == 1
    assert samples["inf2kit_engine_restarts"] == 2
    assert samples["inf2kit_texts_inside"] == 3
    assert samples["inf2kit_rows"] == 8
    assert samples["inf2kit_prompt_tokens_total"] == 5
    assert (samples["inf2kit_step_seconds_sum"], samples["inf2kit_step_seconds_count"]) == (0.5, 1)


def test_a_minute_in_one_line() -> None:
    before = {("inf2kit_calls_total", ""): 10.0, ("inf2kit_generated_tokens_total", ""): 100.0}
    now = {
        ("inf2kit_calls_total", ""): 16.0,
        ("inf2kit_rejected_calls_total", ""): 1.0,
        ("inf2kit_generated_tokens_total", ""): 700.0,
        ("inf2kit_rows", ""): 8.0,
        ("inf2kit_rows_busy", ""): 3.0,
        ("inf2kit_texts_inside", ""): 5.0,
        ("inf2kit_texts_limit", ""): 36.0,
        ("inf2kit_time_limit_texts_total", ""): 2.0,
        ("inf2kit_step_seconds_sum", ""): 2.0,
        ("inf2kit_step_seconds_count", ""): 40.0,
    }
    line = summarize(now, before, 60.0)
    assert line is not None
    words = dict(word.split("=") for word in line.split())
    assert words["calls"] == "6"
    assert words["rejected"] == "1"
    assert words["rows_busy"] == "3/8"
    assert (words["texts_inside"], words["texts_limit"], words["time_limit"]) == ("5", "36", "2")
    assert words["generated_tokens_per_second"] == "10.0"
    assert words["step"] == "50.0ms"
    assert words["prefill_stall"] == "-"


def test_an_engine_that_was_started_again_counts_from_zero() -> None:
    line = summarize(
        {("inf2kit_calls_total", ""): 11.0, ("inf2kit_generated_tokens_total", ""): 30.0},
        {("inf2kit_calls_total", ""): 10.0, ("inf2kit_generated_tokens_total", ""): 900.0},
        60.0,
    )
    assert line is not None
    assert "generated_tokens=30 " in line


def test_a_minute_without_calls_says_nothing() -> None:
    same = {("inf2kit_calls_total", ""): 10.0}
    assert summarize(same, same, 60.0) is None


def test_the_samples_of_several_engines_differ_in_a_label_and_add_up() -> None:
    """Prometheus refuses a text in which a family comes twice, or a sample."""
    engines = [EngineMetrics(8), EngineMetrics(8)]
    for engine, tokens in zip(engines, (5, 7), strict=True):
        engine.generated_tokens.inc(tokens)
        engine.finished("length")
        engine.step.observe(0.5)
    text = join_engines({number: engine.text() for number, engine in enumerate(engines)})
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    assert 'inf2kit_finished_texts_total{engine="1",finish_reason="length"}' in samples
    each = parse_engine_samples(text)
    assert [each["inf2kit_generated_tokens_total", number] for number in "01"] == [5, 7]
    together = parse_samples(text)
    assert (together["inf2kit_rows"], together["inf2kit_step_seconds_sum"]) == (16, 1)


def test_an_engine_that_counts_from_zero_hides_nothing_of_the_other() -> None:
    tokens = "inf2kit_generated_tokens_total"
    before = {(tokens, "0"): 900.0, (tokens, "1"): 500.0, ("inf2kit_calls_total", ""): 1.0}
    now = {(tokens, "0"): 930.0, (tokens, "1"): 20.0, ("inf2kit_calls_total", ""): 2.0}
    line = summarize(now, before, 60.0)
    assert line is not None
    assert "generated_tokens=50 " in line
