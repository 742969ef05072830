"""``make soak``: hours at full load, with callers that leave and engines that are killed.

Eight callers send requests of random lengths without a pause; they close every fifth one, a stream, in the
middle. Every whole answer must equal the answer that the same request got at the start, alone, or be a typed
error. An answer that differs is wrong, unless it is proven token by token to be a near-tie of float32. With
--toxics the network between runtime and gateway delays, resets and drops connections. Memory, open files,
processes and busy rows are sampled all the time; they must not grow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import statistics
import threading
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from botocore.exceptions import ClientError

from benchmarks.ending import end_children
from benchmarks.report import FOLDER
from benchmarks.servers import boto3_client
from benchmarks.toxics import toxic_front
from inf2kit.rehearsal import model
from inf2kit.rehearsal.container import processes as container
from inf2kit.rehearsal.local.endpoint import LocalEndpoint
from inf2kit.rehearsal.local.start import start_endpoint
from inf2kit.rehearsal.local.state import EndpointState

CALLERS, POOL = 8, 24
_SAMPLE_S = 1.0
_TYPED_ERRORS = ("unavailable", "queue_full", "queue_timeout", "ModelStreamError")
#: Errors of the runtime, as of AWS, for a connection to the container that fails or is silent.
_NETWORK_ERRORS = ("ServiceUnavailable", "ModelError")
#: The refusal of a prompt that was in the engine at two kills, which are the soak's own.
_CRASH_ERROR = "crashed_before"
_WORDS = ("ocean", "of", "the", "mountain", "and", "a", "river", "that", "sings", "in", "winter", "light")


@dataclass
class Sample:
    """The endpoint's memory, open files and processes at one moment."""

    at_s: float
    memory_mb: float
    files: int
    processes: int


@dataclass
class Outcome:
    """The result of a soak.

    Attributes:
        exact: Whole answers equal to the first one of their request.
        left: Streams that their caller closed in the middle.
        errors: Typed errors, by code.
        differing: Other ids that a request got, by its number; each must be proven to be a near-tie.
        wrong: Everything else, a sentence each; must be empty.
        kills: Engines killed.
        samples: Samples in order of time.
        busy_at_the_end: Busy rows and queue length after the last call.
    """

    exact: int = 0
    left: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    differing: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    samples: list[Sample] = field(default_factory=list)
    busy_at_the_end: float = -1.0

    def growth(self, name: str) -> float:
        """Return the median of the last fifth of the samples, divided by that of the second fifth."""
        values = [float(getattr(sample, name)) for sample in self.samples]
        fifth = max(len(values) // 5, 1)
        return statistics.median(values[-fifth:]) / statistics.median(values[fifth : 2 * fifth] or values)


class Soak:
    """A load on one endpoint.

    Args:
        state: A local endpoint that is in service.
        seed: Seed of the requests and of the streams that are closed.
        url: The URL of a runtime with a bad network; the endpoint's own by default.
    """

    def __init__(self, state: EndpointState, seed: int = 0, url: str = "") -> None:
        self._state = state
        self._typed_errors = (*_TYPED_ERRORS, _CRASH_ERROR, *(_NETWORK_ERRORS if url else ()))
        self._direct, self._client = boto3_client(state), boto3_client(state, url)
        rng = random.Random(seed)
        self._requests = [_make_request(rng) for _ in range(POOL)]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.outcome = Outcome()

    def run(self, seconds: float, kill_every_s: float) -> Outcome:
        """Call the endpoint for so many seconds, and kill its engine every ``kill_every_s``."""
        self._expected = [self._call(request, self._direct) for request in self._requests]
        threads = [threading.Thread(target=self._work, args=(index,)) for index in range(CALLERS)]
        for thread in threads:
            thread.start()
        began, next_kill = time.monotonic(), kill_every_s
        try:
            while (now := time.monotonic() - began) < seconds:
                if now >= next_kill:
                    next_kill += kill_every_s
                    self._kill_engine()
                self._sample(now)
                time.sleep(_SAMPLE_S)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        self.outcome.busy_at_the_end = self._busy_rows()
        return self.outcome

    def prove(self, weights: Path) -> int:
        """Count the differing answers that are near-ties; the others are wrong."""
        from transformers import AutoTokenizer

        from inf2kit.serving.wire.parameters import parse_parameters
        from tests.helpers.reference_model import ReferenceModel

        tokenizer = AutoTokenizer.from_pretrained(weights)
        proof, proven = ReferenceModel(weights, [tokenizer.eos_token_id]), 0
        for number, answers in self.outcome.differing.items():
            request = self._requests[number]
            prompt, parameters = (
                tokenizer(request["inputs"])["input_ids"],
                parse_parameters(request["parameters"])[0],
            )
            for ids in answers:
                try:
                    proven += proof.count_near_ties(prompt, ids, parameters) > 0
                except AssertionError as error:
                    self.outcome.wrong.append(f"request {number}: {error}")
        return proven

    def _call(self, request: dict[str, Any], client: Any) -> tuple[str, tuple[int, ...]]:
        response = client.invoke_endpoint(
            EndpointName=self._state.name, ContentType="application/json", Body=json.dumps(request)
        )
        answer = json.loads(response["Body"].read())[0]
        return answer["details"]["finish_reason"], tuple(token["id"] for token in answer["details"]["tokens"])

    def _close_stream_early(self, request: dict[str, Any], after: int) -> None:
        response = self._client.invoke_endpoint_with_response_stream(
            EndpointName=self._state.name,
            ContentType="application/json",
            Body=json.dumps({**request, "stream": True}),
        )
        parts = iter(response["Body"])
        for _ in range(after):
            next(parts, None)
        response["Body"].close()

    def _work(self, index: int) -> None:
        rng = random.Random(f"{index}")
        while not self._stop.is_set():
            number = rng.randrange(POOL)
            request = self._requests[number]
            try:
                if rng.random() < 0.2:
                    self._close_stream_early(request, rng.randint(1, 4))
                    self._count(left=1)
                else:
                    self._compare(number, *self._call(request, self._client))
            except ClientError as error:
                self._count_error(error)
                time.sleep(0.2)  # a refused caller waits before it tries again
            except Exception as error:
                # Any other error is wrong: a broken connection, or an answer that cannot be parsed.
                self._count(wrong=f"{type(error).__name__}: {error}")
                time.sleep(0.2)

    def _compare(self, number: int, reason: str, ids: tuple[int, ...]) -> None:
        expected_reason, expected = self._expected[number]
        if (reason, ids) == (expected_reason, expected):
            self._count(exact=1)
        elif reason == "time_limit" and ids == expected[: len(ids)]:
            with self._lock:
                self.outcome.errors["time_limit"] = self.outcome.errors.get("time_limit", 0) + 1
        else:
            with self._lock:
                self.outcome.differing.setdefault(number, set()).add(ids)

    def _count_error(self, error: ClientError) -> None:
        try:
            code = json.loads(error.response["OriginalMessage"])["error_type"]
        except (KeyError, ValueError, TypeError):
            # The error of a stream is an event with a code, without a message of the container.
            code = error.response.get("Error", {}).get("Code")
        if code in self._typed_errors:
            with self._lock:
                self.outcome.errors[code] = self.outcome.errors.get(code, 0) + 1
        else:
            self._count(wrong=f"{type(error).__name__}: {error}")

    def _count(self, *, exact: int = 0, left: int = 0, wrong: str | None = None) -> None:
        with self._lock:
            self.outcome.exact += exact
            self.outcome.left += left
            if wrong:
                self.outcome.wrong.append(wrong)

    def _processes(self) -> list[psutil.Process]:
        return container.list_processes(Path(self._state.run_dir))

    def _kill_engine(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if "inf2kit.serving.engine.server" in process.cmdline():
                    process.send_signal(signal.SIGKILL)
                    self.outcome.kills += 1

    def _sample(self, now: float) -> None:
        memory = files = count = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                memory += process.memory_full_info().uss
                files += process.num_fds()
                count += 1
        self.outcome.samples.append(Sample(now, memory / 2**20, files, count))

    def _busy_rows(self) -> float:
        """Return busy rows and queue length, once the engine has noticed that all callers are gone."""
        from inf2kit.serving.engine.metrics import parse_samples

        busy = -1.0
        deadline = time.monotonic() + 30
        while busy and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(self._state.gateway_url + "/metrics", timeout=5) as response:
                    values = parse_samples(response.read().decode())
                busy = (
                    values.get("inf2kit_rows_busy", 1.0)
                    + values.get("inf2kit_queue_length", 0.0)
                    + values.get("inf2kit_texts_inside", 0.0)
                )
            time.sleep(0.1)
        return busy


def _make_request(rng: random.Random) -> dict[str, Any]:
    parameters: dict[str, Any] = {"max_new_tokens": rng.randint(1, 48), "details": True}
    if rng.random() < 0.5:
        parameters |= {"seed": rng.randrange(2**31), "top_k": 20, "temperature": 0.8}
    return {
        "inputs": " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 80))),
        "parameters": parameters,
    }


def main() -> None:
    """Soak a new endpoint, print the result, and save the samples."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=600.0, help="seconds")
    parser.add_argument("--preset", default="smollm2-135m-local")
    parser.add_argument("--toxics", action="store_true", help="a bad network between runtime and gateway")
    parser.add_argument("--simulated", action="store_true", help="the simulated backend instead of the model")
    parser.add_argument(
        "--step-seconds", type=float, default=0.01, help="seconds of a step of the simulated backend"
    )
    options = parser.parse_args()
    simulated = {
        "INF2KIT_BACKEND": "simulated",
        "INF2KIT_SIMULATED_STEP_SECONDS": f"{options.step_seconds:g}",
    }
    variables = simulated if options.simulated else {}
    state = start_endpoint(options.preset, name="inf2kit-soak", variables=variables)
    counts: Counter[str] = Counter()
    try:
        with ExitStack() as stack:
            url = ""
            if options.toxics:
                url, counts = stack.enter_context(toxic_front(state.gateway_url, state.name))
            soak = Soak(state, url=url)
            outcome = soak.run(options.minutes * 60, options.kill_every)
    finally:
        LocalEndpoint(state.name).stop()
    proven = soak.prove(model.prepare())
    FOLDER.mkdir(parents=True, exist_ok=True)
    value = {
        **vars(outcome),
        "differing": len(outcome.differing),
        "samples": [vars(sample) for sample in outcome.samples],
    }
    (FOLDER / "soak.json").write_text(json.dumps(value, indent=1), encoding="utf-8")
    backend = "simulated backend" if options.simulated else options.preset
    print(f"{options.minutes:g} minutes, {CALLERS} callers, {backend}, engine killed {outcome.kills} times")
    if options.toxics:
        print(f"  connections between runtime and gateway: {dict(counts)}")
    print(f"  {outcome.exact} answers exact, {outcome.left} streams closed, typed errors: {outcome.errors}")
    print(f"  {proven} other answers, each proven to be a near-tie of float32")
    print(f"  wrong: {len(outcome.wrong)} {outcome.wrong[:3]}")
    for name in ("memory_mb", "files", "processes"):
        first, last = getattr(outcome.samples[0], name), getattr(outcome.samples[-1], name)
        growth = outcome.growth(name)
        print(f"  {name}: {first:.0f} at the start, {last:.0f} at the end, last fifth / second {growth:.3f}")
    print(f"  busy rows and queue after the last call: {outcome.busy_at_the_end:.0f}")
    if outcome.wrong or outcome.busy_at_the_end:
        raise SystemExit(1)


if __name__ == "__main__":
    with end_children():
        main()
