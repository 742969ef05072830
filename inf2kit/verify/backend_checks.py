"""Checks of the Neuron backend on a device.

``python -m inf2kit.verify.backend_checks COMPILED SOURCE RESULT``.

They run in a process of their own, because a process holds its cores until it ends.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.backend.neuron import NeuronBackend, read_neuron_config
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters

#: By dtype: how far the reference's logit of a chosen token may lie below the reference's best logit.
TOLERANCE = {"float32": 0.02, "bfloat16": 0.5, "float16": 0.1}
_SYSFS = Path("/sys/devices/virtual/neuron_device")
_NO_DEADLINE_S = 1e9


class CpuReference:
    """The uncompiled model in transformers, on the CPU in float32."""

    def __init__(self, source: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(source, torch_dtype=torch.float32).eval()

    def logits(self, ids: Sequence[int]) -> Any:
        """Return the logits after each of the ids, of shape (ids, vocabulary)."""
        with self._torch.inference_mode():
            return self._model(self._torch.tensor([list(ids)])).logits[0]

    def logit_gap(self, prompt: Sequence[int], new: Sequence[int]) -> float:
        """Return how far the logit of the worst new token lies below the best logit at its position."""
        logits = self.logits([*prompt, *new[:-1]])[len(prompt) - 1 :]
        gaps = [float(row.max() - row[token_id]) for row, token_id in zip(logits, new, strict=True)]
        return max(gaps, default=0.0)


class BackendChecks:
    """Checks of one compiled model, called directly and through the engine's scheduler.

    Args:
        compiled: The folder of the compiled model.
        source: The folder of the model that was compiled, for the reference.
    """

    def __init__(self, compiled: Path, source: Path) -> None:
        self.backend = open_backend(compiled)
        self.config, self.shapes = self.backend.neuron_config, self.backend.shapes
        before, began = _peak_host_bytes(), time.monotonic()
        self.backend.load()
        self.load_s, self.load_host_bytes = time.monotonic() - began, _peak_host_bytes() - before
        self.reference = CpuReference(source)
        self.tolerance = TOLERANCE[str(self.config["torch_dtype"])]

    def generate(
        self, requests: Sequence[tuple[Sequence[int], int, Parameters]], leave: Sequence[int] = ()
    ) -> dict[int, list[int]]:
        """Generate for requests that arrive one after the other; cancel some after a few steps.

        Args:
            requests: Prompt, number of new tokens and parameters of each.
            leave: Indices of requests to cancel.

        Returns:
            The new token ids by the request's index, without the cancelled requests.
        """
        scheduler = Scheduler(self.backend, _NoText(), frozenset(), queue_size=len(requests))
        done: dict[int, list[int]] = {}
        errors: list[Exception] = []
        submitted = []

        def ended(number: int) -> Callable[[int, Any, Generation], None]:
            return lambda _count, _token, end: done.__setitem__(number, [token.id for token in end.tokens])

        for number, (prompt, new, parameters) in enumerate(requests):
            request = Request(
                prompt_ids=prompt,
                parameters=parameters,
                max_new_tokens=new,
                deadline=time.monotonic() + _NO_DEADLINE_S,
                on_token=lambda *_: None,
                on_end=ended(number),
                on_error=errors.append,
            )
            submitted.append(request)
            scheduler.submit([request])
            for _ in range(1 + number % 3):
                scheduler.step()
            for gone in leave:
                if number > gone + 1:
                    submitted[gone].cancelled = True
                    scheduler.wake()
        while scheduler.unfinished:
            scheduler.step()
        if errors:
            raise errors[0]
        return done

    def check_exactness(self, lengths: Sequence[int], new: int, leave: Sequence[int] = ()) -> dict[str, Any]:
        """Compare greedy texts of prompts of these lengths with the reference."""
        greedy = Parameters(max_new_tokens=new, ignore_eos=True, details="tokens")
        requests = [(_token_ids(length, length), new, greedy) for length in lengths]
        texts = self.generate(requests, leave)
        gaps = {number: self.reference.logit_gap(requests[number][0], ids) for number, ids in texts.items()}
        worst = max(gaps.values())
        return {
            "texts": len(texts),
            "tokens": sum(map(len, texts.values())),
            "worst_logit_gap": worst,
            "tolerance": self.tolerance,
            "passed": worst <= self.tolerance,
        }

    def check_tied_positions(self) -> dict[str, Any]:
        """Check a prompt of two tokens as optimum-neuron pads it, with the second token's position."""
        import torch

        ids = _token_ids(2, 5)
        rows, sampling = torch.tensor([0]), torch.tensor([[1.0, 1.0, 1.0]])
        step = self.backend._forward(torch.tensor([ids]), torch.tensor([[0, 1]]), rows, sampling)
        expected = self.reference.logits(ids)
        near = float((step.logits[0].cpu() - expected[1]).abs().max()) < 10 * self.tolerance
        return {"padded_by_optimum_neuron_is_right": near}

    def measure_prefill(self) -> dict[str, Any]:
        """Measure the milliseconds of a prefill by the length of its prompt."""
        longest = self.shapes.max_context_length
        lengths = sorted({2, longest // 8, longest // 2, longest} - {0, 1})
        return {"milliseconds": {str(length): 1e3 * self._timed_prefill(length) for length in lengths}}

    def measure_steps(self) -> dict[str, Any]:
        """Measure the milliseconds of a decode step by the number of live rows."""
        milliseconds = {}
        for count in range(1, self.shapes.batch_size + 1):
            for row in range(count):
                self.backend.prefill([PrefillChunk(row, _token_ids(8, row))])
            rows = list(range(count))
            times = [_timed(partial(self.backend.decode, rows, [5] * count)) for _ in range(20)]
            milliseconds[str(count)] = 1e3 * statistics.median(times)
            for row in rows:
                self.backend.release(row)
        return {"milliseconds": milliseconds}

    def _timed_prefill(self, length: int) -> float:
        times = []
        for _ in range(5):
            times.append(_timed(lambda: self.backend.prefill([PrefillChunk(0, _token_ids(length, 1))])))
            self.backend.release(0)
        return statistics.median(times)

    def check_on_device_sampling(self) -> dict[str, Any]:
        """Check a model that samples on the device: greedy texts, and that top_k=3 takes the best three."""
        result = self.check_exactness([1, 2, 9, 17], 8)
        prompt = _token_ids(12, 3)
        sampled = Parameters(max_new_tokens=16, do_sample=True, top_k=3, ignore_eos=True, details="tokens")
        (new,) = self.generate([(prompt, 16, sampled)]).values()
        logits = self.reference.logits([*prompt, *new[:-1]])[len(prompt) - 1 :]
        lowest = [
            float(row.topk(3).values[-1] - row[token_id]) for row, token_id in zip(logits, new, strict=True)
        ]
        result["below_the_third_best"] = max(lowest)
        result["passed"] = bool(result["passed"] and max(lowest) <= self.tolerance)
        return result


def open_backend(compiled: Path) -> NeuronBackend:
    """Return the backend of a compiled model, not loaded yet."""
    config = read_neuron_config(compiled)
    shapes = StaticShapes.from_dict(config)
    return NeuronBackend(compiled, shapes)


class _NoText(TokenDecoder):
    def decode(self, _: Sequence[int]) -> str:
        return ""


def read_device_memory() -> dict[str, int]:
    """Read each core's memory use from the driver, in bytes by the driver's names; empty without a driver."""
    memory: dict[str, int] = {}
    for path in sorted(_SYSFS.glob("neuron*/neuron_core*/stats/memory_usage/device_mem/**/present")):
        relative = path.relative_to(_SYSFS).as_posix().replace("/stats/memory_usage/device_mem", "")
        memory[relative.removesuffix("/present")] = int(path.read_text(encoding="utf-8").split()[0])
    return memory


def load_in_second_process(compiled: Path) -> dict[str, Any]:
    """Load the model in another process while this one holds the cores; return what happens there."""
    code = (
        "import sys; from pathlib import Path; from inf2kit.verify.backend_checks import open_backend; "
        "open_backend(Path(sys.argv[1])).load()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(compiled)], capture_output=True, text=True, check=False, timeout=300
    )
    lines = process.stderr.strip().splitlines()
    return {
        "loaded": process.returncode == 0,
        "recognised": "DeviceBusyError" in process.stderr,
        "error": lines[-1][:500] if lines and process.returncode else "",
    }


def _token_ids(count: int, seed: int) -> list[int]:
    return [2 + (seed * 7919 + index * (31 + seed % 7)) % 250 for index in range(count)]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _peak_host_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(compiled: Path, source: Path, result: Path) -> None:
    """Run all checks, and write the answers by the names of the questions."""
    checks = BackendChecks(compiled, source)
    if checks.config["on_device_sampling"]:
        answers = {"on-device-sampling": checks.check_on_device_sampling()}
    else:
        batch, room = checks.shapes.batch_size, checks.shapes.max_context_length
        many = [1 + (7 * index) % (room // 2) for index in range(3 * batch)]
        shards = sum(path.stat().st_size for path in (compiled / "checkpoint/weights").iterdir())
        answers = {
            "loads": {"seconds": checks.load_s, "passed": True},
            "ragged-exactness": checks.check_exactness([2 + 5 * row for row in range(batch)], 16),
            "rows-come-and-go": checks.check_exactness(many, 12, leave=[1, 4]),
            "short-prompts": {**checks.check_exactness([1, 2, 1, 2, 9], 8), **checks.check_tied_positions()},
            "prefill-cost": checks.measure_prefill(),
            "step-time": checks.measure_steps(),
            "device-memory": {"bytes": read_device_memory()},
            "host-memory": {
                "bytes": checks.load_host_bytes,
                "for_each_byte_of_weights": checks.load_host_bytes / shards,
            },
            "cores-held": load_in_second_process(compiled),
        }
    result.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
