"""``bench load`` beside LLMeter, guidellm and AIPerf: the same prompts, on one local endpoint, in one run.

    python -m benchmarks.load_peers --write-docs

The endpoint is the simulated backend, whose steps take as long whoever calls: only what the tools measure
differs. Ours comes first and last, so that one can see how much the machine itself varies. guidellm and
LLMeter are those of the tests (``make setup``); AIPerf is used if it is in ``build/aiperf``:

    .venv/tools/bin/uv venv build/aiperf
    .venv/tools/bin/uv pip install -p build/aiperf/bin/python aiperf==0.13.0

With the default number of calls it takes four minutes, and wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import Endpoint
from inf2kit.bench.load.report import Report
from inf2kit.bench.machine import describe_processor
from inf2kit.bench.prompts import PromptBuilder
from inf2kit.rehearsal import model
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from tests.helpers.simulated_preset import write_preset

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "measuring.md"
NAME = "load-peers"
AIPERF = ROOT / "build" / "aiperf" / "bin" / "aiperf"
CLIENTS = Path(sys.prefix) / "clients-others" / "bin"
#: Tokens of each call.
INPUT_TOKENS, NEW_TOKENS = 128, 64
STEP_S = 0.02
LLMETER = """
import asyncio, json, sys
from llmeter.endpoints import SageMakerStreamEndpoint
from llmeter.runner import Runner
from llmeter.tokenizers import DummyTokenizer

name, prompts, new_tokens, callers, folder = sys.argv[1:6]
endpoint = SageMakerStreamEndpoint(endpoint_name=name, model_id=name)
payloads = []
for line in open(prompts):
    payload = SageMakerStreamEndpoint.create_payload(json.loads(line)["prompt"], max_tokens=int(new_tokens))
    payload["parameters"] |= {"ignore_eos": True, "details": True}
    payloads.append(payload)
runner = Runner(endpoint, tokenizer=DummyTokenizer())
result = asyncio.run(runner.run(
    payload=payloads, clients=int(callers), n_requests=len(payloads) // int(callers),
    disable_per_client_progress_bar=True, disable_clients_progress_bar=True,
))
json.dump(result.stats, open(f"{folder}/llmeter.json", "w"), default=str)
"""


@dataclass(frozen=True)
class Figures:
    """What a tool says, in seconds and per second; None where it does not say."""

    calls: float | None = None
    first_token_s: float | None = None
    inter_token_s: float | None = None
    latency_s: float | None = None
    tokens_per_s: float | None = None
    requests_per_s: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Setting:
    """What all tools do.

    Attributes:
        url: The address of SageMaker's runtime.
        openai: The address and a token of its OpenAI route.
        prompts: A file with a prompt in each line, as JSON.
        calls: Number of calls.
        callers: Number of callers.
        tokenizer: The folder of the tokenizer.
        folder: For their files.
    """

    url: str
    openai: dict[str, str]
    prompts: Path
    calls: int
    callers: int
    tokenizer: Path
    folder: Path


def ours(setting: Setting, transport: str, run: str) -> Figures:
    """``inf2kit bench load``, with the rule of windows."""
    folder = setting.folder / f"ours-{transport}-{run}"
    trace = setting.folder / "trace.jsonl"
    lines = [json.loads(line) for line in setting.prompts.read_text(encoding="utf-8").splitlines()]
    parameters = {"max_new_tokens": NEW_TOKENS, "ignore_eos": True}
    trace.write_text(
        "".join(json.dumps({**line, "parameters": parameters}) + "\n" for line in lines), encoding="utf-8"
    )
    options = ["--trace", str(trace), "--callers", str(setting.callers), "--requests", str(setting.calls)]
    command = [sys.executable, "-m", "inf2kit.cli", "bench", "load", NAME, "--transport", transport, *options]
    _run([*command, "--output", str(folder), "--quiet"], setting.folder, f"ours-{transport}-{run}")
    (cell,) = Report.read(folder / "load.json").measured()
    _, statistics, findings = cell
    print(f"ours, {transport}: checks: {[finding.name for finding in findings] or 'passed'}")

    def median(tag: str) -> float | None:
        statistic = statistics.get(tag)
        return statistic.percentile(50) if statistic else None

    return Figures(
        statistics["request_count"].avg,
        median("time_to_first_token"),
        median("inter_token_latency"),
        median("request_latency"),
        statistics["output_token_throughput"].avg,
        statistics["request_throughput"].avg,
    )


def llmeter(setting: Setting) -> Figures:
    """LLMeter by SageMaker's own route."""
    program = setting.folder / "llmeter_run.py"
    program.write_text(LLMETER, encoding="utf-8")
    arguments = [NAME, str(setting.prompts), str(NEW_TOKENS), str(setting.callers), str(setting.folder)]
    command = [str(CLIENTS / "python"), "-I", str(program), *arguments]
    _run(command, setting.folder, "llmeter", AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=setting.url)
    stats = json.loads((setting.folder / "llmeter.json").read_text(encoding="utf-8"))
    return Figures(
        stats["total_requests"] - stats["failed_requests"],
        _number(stats.get("time_to_first_token-p50")),
        _number(stats.get("time_per_output_token-p50")),
        _number(stats.get("time_to_last_token-p50")),
        _per_minute(stats.get("average_output_tokens_per_minute")),
        _per_minute(stats.get("requests_per_minute")),
    )


def guidellm(setting: Setting) -> Figures:
    """guidellm by the OpenAI route."""
    backend = {
        "kind": "openai_http",
        "target": setting.openai["base_url"],
        "api_key": setting.openai["api_key"],
        "model": "any",
        "max_tokens": NEW_TOKENS,
        "validate_backend": False,
        "extras": {"body": {"ignore_eos": True}},
    }
    command = [str(CLIENTS / "guidellm"), "run", "--backend", json.dumps(backend)]
    command += ["--profile", f"kind=concurrent,streams={setting.callers}"]
    command += ["--constraint", f"kind=max_requests,count={setting.calls}"]
    command += [
        "--data",
        f"kind=json_file,path={setting.prompts}",
        "--output",
        "kind=json,path=guidellm.json",
    ]
    _run([*command, "--disable-console"], setting.folder, "guidellm", HF_HUB_OFFLINE="1")
    report = json.loads((setting.folder / "guidellm.json").read_text(encoding="utf-8"))
    metrics = report["benchmarks"][0]["metrics"]

    def figure(name: str, statistic: str = "median") -> float | None:
        return _number(metrics.get(name, {}).get("successful", {}).get(statistic))

    def seconds(name: str) -> float | None:
        value = figure(name)
        return None if value is None else value / 1000

    return Figures(
        len(report["benchmarks"][0]["requests"]["successful"]),
        seconds("time_to_first_token_ms"),
        seconds("inter_token_latency_ms"),
        figure("request_latency"),
        figure("output_tokens_per_second", "mean"),
        figure("requests_per_second", "mean"),
    )


def aiperf(setting: Setting) -> Figures:
    """AIPerf by the OpenAI route."""
    lines = [json.loads(line) for line in setting.prompts.read_text(encoding="utf-8").splitlines()]
    source = setting.folder / "aiperf.jsonl"
    source.write_text(
        "".join(json.dumps({"text": line["prompt"]}) + "\n" for line in lines), encoding="utf-8"
    )
    command = [str(AIPERF), "profile", "--model", "any", "--endpoint-type", "chat", "--streaming"]
    command += [
        "--url",
        setting.openai["base_url"].removesuffix("/v1"),
        "--api-key",
        setting.openai["api_key"],
    ]
    command += ["--concurrency", str(setting.callers), "--request-count", str(setting.calls)]
    command += ["--input-file", str(source), "--custom-dataset-type", "single_turn"]
    command += ["--extra-inputs", f"max_tokens:{NEW_TOKENS}", "--extra-inputs", "ignore_eos:true"]
    command += ["--use-server-token-count", "--tokenizer", str(setting.tokenizer), "--ui", "simple"]
    _run([*command, "--artifact-dir", str(setting.folder / "aiperf")], setting.folder, "aiperf")
    (path,) = (setting.folder / "aiperf").rglob("profile_export_aiperf.json")
    values = json.loads(path.read_text(encoding="utf-8"))

    def figure(tag: str, statistic: str, factor: float = 1.0) -> float | None:
        value = _number((values.get(tag) or {}).get(statistic))
        return None if value is None else factor * value

    return Figures(
        figure("request_count", "avg"),
        figure("time_to_first_token", "p50", 0.001),
        figure("inter_token_latency", "p50", 0.001),
        figure("request_latency", "p50", 0.001),
        figure("output_token_throughput", "avg"),
        figure("request_throughput", "avg"),
    )


TOOLS: dict[str, Callable[[Setting], Figures]] = {
    "bench load": lambda setting: ours(setting, "async", "1"),
    "bench load (boto3)": lambda setting: ours(setting, "boto3", "1"),
    "LLMeter": llmeter,
    "bench load (OpenAI route)": lambda setting: ours(setting, "openai", "1"),
    "guidellm": guidellm,
    "AIPerf": aiperf,
    "bench load (again)": lambda setting: ours(setting, "async", "2"),
}


def measure(setting: Setting, tools: list[str]) -> dict[str, Figures]:
    """Run each tool; one that fails says why in its row."""
    results = {}
    for name in tools:
        try:
            results[name] = TOOLS[name](setting)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            results[name] = Figures(failure=" ".join(str(error).split())[-200:] or type(error).__name__)
        print(f"{name}: {results[name]}", flush=True)
    return results


def render(results: dict[str, Figures]) -> str:
    """Return the table, as Markdown."""
    rows = ["| tool | calls | first token, p50 | inter-token, p50 | latency, p50 | tokens/s | requests/s |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name, figures in results.items():
        if figures.failure:
            rows.append(f"| {name} | failed: {figures.failure} | | | | | |")
            continue
        cells = [
            _cell(figures.calls, 1, "", 0),
            _cell(figures.first_token_s, 1000, " ms", 0),
            _cell(figures.inter_token_s, 1000, " ms", 1),
            _cell(figures.latency_s, 1, " s", 2),
            _cell(figures.tokens_per_s, 1, "", 1),
            _cell(figures.requests_per_s, 1, "", 2),
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Start the endpoint, and stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        preset = write_preset(Path(folder) / "load-peers.toml", queue_size=32)
        variables = {"INF2KIT_SIMULATED_STEP_SECONDS": str(STEP_S)}
        try:
            start_endpoint(preset, name=NAME, variables=variables, weights=model.prepare())
            yield Endpoint(NAME)
        finally:
            LocalEndpoint(NAME).stop()


def main() -> None:
    """Measure, print the table, and write it into the document if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_peers", description=__doc__)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--only", default=",".join(TOOLS), help="tools, with commas between them")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "load-peers", help="for the tools' files"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"write the table into {DOCUMENT.name}")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with endpoint() as called:
        builder = PromptBuilder.measure(
            lambda text: called.chat([{"role": "user", "content": text}], max_tokens=1).input_tokens
        )
        prompts = options.folder / "prompts.jsonl"
        lines = (json.dumps({"prompt": builder.build(INPUT_TOKENS, seed)}) for seed in range(options.calls))
        prompts.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        arguments = called.openai(lifetime_s=3600)
        openai = {"base_url": str(arguments["base_url"]), "api_key": arguments["api_key"]()}
        url = openai["base_url"].partition("/endpoints/")[0]
        setting = Setting(
            url, openai, prompts, options.calls, options.callers, model.prepare(), options.folder.absolute()
        )
        results = measure(setting, [name for name in options.only.split(",") if name])
    heading = (
        f"{options.calls} calls of {INPUT_TOKENS} input and {NEW_TOKENS} new tokens, {options.callers} "
        "callers; the "
        f"simulated backend with 8 rows\nand steps of {1000 * STEP_S:.0f} ms; {describe_processor()}."
    )
    table = f"{heading}\n\n{render(results)}"
    print(table)
    if options.write_docs:
        text = DOCUMENT.read_text(encoding="utf-8")
        before, begin, rest = text.partition("<!-- load peers: begin -->\n\n")
        _, end, after = rest.partition("\n\n<!-- load peers: end -->")
        DOCUMENT.write_text(f"{before}{begin}{table}{end}{after}", encoding="utf-8")


def _run(command: list[str], folder: Path, name: str, **variables: str) -> None:
    """Run a program for at most five minutes, and keep what it prints.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    credentials = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    credentials["AWS_DEFAULT_REGION"] = "us-east-1"
    environment = {**os.environ, **credentials, **variables}
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        try:
            subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=300,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            lines = (
                (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            )
            raise RuntimeError(lines[-1] if lines else str(error)) from None


def _number(value: Any) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return float(value)
    return None


def _per_minute(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else number / 60


def _cell(value: float | None, factor: float, unit: str, decimals: int) -> str:
    return "-" if value is None else f"{factor * value:,.{decimals}f}{unit}"


if __name__ == "__main__":
    main()
