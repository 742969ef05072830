"""Counters and histograms for Prometheus, and their summary of one minute for the log.

An engine counts texts and tokens, the gateway counts calls; ``GET /metrics`` of the gateway returns both. The
samples of several engines have the label ``engine``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from inf2kit.serving.engine.admission import Admission

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds. A decode step takes milliseconds on a device and tenths of a second on a laptop.
_STEP_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_FIRST_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)

#: A sample's name, and the number of its engine; empty for the gateway and for the only engine.
Key = tuple[str, str]
Samples = Mapping[Key, float]


class EngineMetrics:
    """The metrics of one engine process. They start at zero when the engine is started again.

    Args:
        rows: Rows of the static batch.
    """

    def __init__(self, rows: int = 0) -> None:
        self._registry = registry = CollectorRegistry()
        Gauge("inf2kit_rows", "Rows of the static batch.", registry=registry).set(rows)
        self.samples_on_device = Gauge(
            "inf2kit_samples_on_device", "1 where the device chooses the tokens.", registry=registry
        )
        self.rows_busy = Gauge("inf2kit_rows_busy", "Rows that hold a text.", registry=registry)
        self.queue_length = Gauge("inf2kit_queue_length", "Texts waiting for a row.", registry=registry)
        self.prompt_tokens = Counter(
            "inf2kit_prompt_tokens", "Tokens of the prompts that got a row.", registry=registry
        )
        self.generated_tokens = Counter("inf2kit_generated_tokens", "New tokens.", registry=registry)
        self._finished = Counter(
            "inf2kit_finished_texts", "Texts that ended.", ["finish_reason"], registry=registry
        )
        # Counted by itself too, for the log: ``parse_samples`` adds up the labels of a metric.
        self._time_limit = Counter(
            "inf2kit_time_limit_texts", "Texts that their deadline ended.", registry=registry
        )
        self.refills = Counter(
            "inf2kit_row_refills",
            "Full rows that went on with a window of their tokens.",
            registry=registry,
        )
        self.time_to_first_token = Histogram(
            "inf2kit_time_to_first_token_seconds",
            "From a call's arrival at the endpoint to its first new token.",
            buckets=_FIRST_BUCKETS,
            registry=registry,
        )
        self.step = Histogram(
            "inf2kit_step_seconds",
            "One decode step of all live rows, choosing the tokens included.",
            buckets=_STEP_BUCKETS,
            registry=registry,
        )
        self.prefill_stall = Histogram(
            "inf2kit_prefill_stall_seconds",
            "What live rows waited between two decode steps because prompts were encoded.",
            buckets=_STEP_BUCKETS,
            registry=registry,
        )

    def finished(self, finish_reason: str) -> None:
        """Count a text that ended."""
        self._finished.labels(finish_reason).inc()
        if finish_reason == "time_limit":
            self._time_limit.inc()

    def text(self) -> str:
        """The metrics in Prometheus' text format."""
        return str(generate_latest(self._registry).decode())


class GatewayMetrics:
    """The metrics of one gateway process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._ready = Gauge("inf2kit_engine_ready", "1 when an engine answers.", registry=registry)
        self._engines = Gauge("inf2kit_engines", "Engines of this container.", registry=registry)
        self._serving = Gauge("inf2kit_engines_serving", "Engines that answer calls.", registry=registry)
        self._restarts = Gauge(
            "inf2kit_engine_restarts", "Times an engine was started again.", registry=registry
        )
        self._texts = Gauge("inf2kit_texts_inside", "Texts admitted, not yet answered.", registry=registry)
        self._capacity = Gauge("inf2kit_texts_limit", "Texts that may be inside at once.", registry=registry)
        self._calls = Counter("inf2kit_calls", "Calls of /invocations.", ["status"], registry=registry)
        self._rejected = Counter(
            "inf2kit_rejected_calls", "Calls answered with an error.", ["reason"], registry=registry
        )

    def record_call(self, status: int, error_code: str | None = None) -> None:
        """Count a call, and its error if it ended with one."""
        self._calls.labels(str(status)).inc()
        if error_code is not None:
            self._rejected.labels(error_code).inc()

    def text(
        self, *, ready: bool, restarts: int, admission: Admission, engines: int = 1, serving: int = 1
    ) -> str:
        """The metrics in Prometheus' text format."""
        self._ready.set(ready)
        self._engines.set(engines)
        self._serving.set(serving)
        self._restarts.set(restarts)
        self._texts.set(admission.texts)
        self._capacity.set(admission.capacity)
        return str(generate_latest(self._registry).decode())


def join_engines(texts: Mapping[int, str]) -> str:
    """The metrics of several engines as one text: each sample has the number of its engine as a label.

    Args:
        texts: The metrics of each engine in Prometheus' text format, by its number.
    """
    families: dict[str, list[str]] = {}
    for engine, text in texts.items():
        heading = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                heading = f"{line}\n"
                continue
            if line.startswith("#"):
                heading += f"{line}\n"
                families.setdefault(heading, [])
                continue
            name, brace, rest = line.partition("{")
            if not brace:
                name, _, value = line.partition(" ")
                rest = f"}} {value}"
            comma = "," if brace else ""
            families[heading].append(f'{name}{{engine="{engine}"{comma}{rest}\n')
    return "".join(heading + "".join(samples) for heading, samples in families.items())


def parse_samples(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' format, by name; samples that differ in labels are added up."""
    samples: dict[str, float] = {}
    for (name, _), value in parse_engine_samples(text).items():
        samples[name] = samples.get(name, 0.0) + value
    return samples


def parse_engine_samples(text: str) -> dict[Key, float]:
    """The samples of a text in Prometheus' format, by name and engine; other labels are added up."""
    samples: dict[Key, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                key = sample.name, sample.labels.get("engine", "")
                samples[key] = samples.get(key, 0.0) + sample.value
    return samples


def summarize(now: Samples, before: Samples, seconds: float) -> str | None:
    """The time between two sets of samples in one line; None without a call.

    Args:
        now: The current samples.
        before: The earlier samples.
        seconds: Seconds between the two.
    """

    names: defaultdict[str, set[Key]] = defaultdict(set)
    for key in (*now, *before):
        names[key[0]].add(key)

    def current(name: str) -> float:
        return sum(now.get(key, 0.0) for key in names[name])

    def increase(name: str) -> float:
        # An engine with less than before was started again, and counts from zero.
        pairs = [(now.get(key, 0.0), before.get(key, 0.0)) for key in names[name]]
        return sum(after - earlier if after >= earlier else after for after, earlier in pairs)

    def mean_ms(name: str) -> str:
        count = increase(f"{name}_count")
        return f"{1000 * increase(f'{name}_sum') / count:.1f}ms" if count else "-"

    calls = increase("inf2kit_calls_total")
    if not calls and not current("inf2kit_rows_busy"):
        return None
    return " ".join(
        [
            f"calls={calls:.0f}",
            f"rejected={increase('inf2kit_rejected_calls_total'):.0f}",
            f"queue_length={current('inf2kit_queue_length'):.0f}",
            f"rows_busy={current('inf2kit_rows_busy'):.0f}/{current('inf2kit_rows'):.0f}",
            f"texts_inside={current('inf2kit_texts_inside'):.0f}",
            f"texts_limit={current('inf2kit_texts_limit'):.0f}",
            f"time_limit={increase('inf2kit_time_limit_texts_total'):.0f}",
            f"prompt_tokens={increase('inf2kit_prompt_tokens_total'):.0f}",
            f"generated_tokens={increase('inf2kit_generated_tokens_total'):.0f}",
            f"generated_tokens_per_second={increase('inf2kit_generated_tokens_total') / seconds:.1f}",
            f"time_to_first_token={mean_ms('inf2kit_time_to_first_token_seconds')}",
            f"step={mean_ms('inf2kit_step_seconds')}",
            f"prefill_stall={mean_ms('inf2kit_prefill_stall_seconds')}",
            f"engine_restarts={current('inf2kit_engine_restarts'):.0f}",
        ]
    )
