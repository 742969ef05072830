"""What a process that holds the cores can see.

``python -m inf2kit.verify.backend_checks COMPILED SOURCE RESULT``.

A process of its own, as cores are held until a process ends.
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
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters

#: The reference's logit of a chosen token may lie so far under its best one's, by the precision computed in.
TOLERANCE = {"float32": 0.02, "bfloat16": 0.5, "float16": 0.1}
_SYSFS = Path("/sys/devices/virtual/neuron_device")
_FAR = 1e9


class Reference:
    """transformers on the CPU in float32."""

    def __init__(self, source: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(source, torch_dtype=torch.float32).eval()

    def logits(self, ids: Sequence[int]) -> Any:
        """Behind each of the ids."""
        with self._torch.inference_mode():
            return self._model(self._torch.tensor([list(ids)])).logits[0]

    def gap(self, prompt: Sequence[int], new: Sequence[int]) -> float:
        """How far the worst of the new tokens lies under the best one there."""
        logits = self.logits([*prompt, *new[:-1]])[len(prompt) - 1 :]
        gaps = [float(row.max() - row[token_id]) for row, token_id in zip(logits, new, strict=True)]
        return max(gaps, default=0.0)


class Rows:
    """A backend on the device, asked directly and through the engine's own scheduler."""

    def __init__(self, compiled: Path, source: Path) -> None:
        self.backend = backend_of(compiled)
        self.config, self.shapes = self.backend.neuron_config, self.backend.shapes
        before, began = _peak_host(), time.monotonic()
        self.backend.load()
        self.load_s, self.load_host = time.monotonic() - began, _peak_host() - before
        self.reference = Reference(source)
        self.tolerance = TOLERANCE[str(self.config["torch_dtype"])]

    def texts(
        self, requests: Sequence[tuple[Sequence[int], int, Parameters]], leave: Sequence[int] = ()
    ) -> dict[int, list[int]]:
        """New ids of requests that arrive one after the other; some leave after a few steps."""
        scheduler = Scheduler(self.backend, _NoText(), frozenset(), queue_size=len(requests))
        done: dict[int, list[int]] = {}
        errors: list[Exception] = []
        submitted = []

        def ended(number: int) -> Callable[[int, Any, Generation], None]:
            return lambda _count, _token, end: done.__setitem__(number, [each.id for each in end.tokens])

        for number, (prompt, new, parameters) in enumerate(requests):
            request = Request(
                prompt_ids=prompt,
                parameters=parameters,
                max_new_tokens=new,
                deadline=time.monotonic() + _FAR,
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

    def exact(self, lengths: Sequence[int], new: int, leave: Sequence[int] = ()) -> dict[str, Any]:
        """Greedy texts of prompts of these lengths against the reference."""
        greedy = Parameters(max_new_tokens=new, ignore_eos=True, details=True)
        requests = [(_ids(length, length), new, greedy) for length in lengths]
        texts = self.texts(requests, leave)
        gaps = {number: self.reference.gap(requests[number][0], ids) for number, ids in texts.items()}
        worst = max(gaps.values())
        return {
            "texts": len(texts),
            "tokens": sum(map(len, texts.values())),
            "worst_logit_gap": worst,
            "tolerance": self.tolerance,
            "passed": worst <= self.tolerance,
        }

    def tie(self) -> dict[str, Any]:
        """A prompt of two tokens, padded by optimum-neuron: its padding has the position of the second."""
        import torch

        ids = _ids(2, 5)
        rows, sampling = torch.tensor([0]), torch.tensor([[1.0, 1.0, 1.0]])
        step = self.backend._forward(torch.tensor([ids]), torch.tensor([[0, 1]]), rows, sampling)
        expected = self.reference.logits(ids)
        near = float((step.logits[0].cpu() - expected[1]).abs().max()) < 10 * self.tolerance
        return {"padded_by_optimum_neuron_is_right": near}

    def prefill_cost(self) -> dict[str, Any]:
        """Milliseconds of a prefill by the length of its prompt."""
        longest = self.shapes.max_context_length
        lengths = sorted({2, longest // 8, longest // 2, longest} - {0, 1})
        return {"milliseconds": {str(length): 1e3 * self._timed_prefill(length) for length in lengths}}

    def step_time(self) -> dict[str, Any]:
        """Milliseconds of a decode step by the number of live rows."""
        found = {}
        for count in range(1, self.shapes.batch_size + 1):
            for row in range(count):
                self.backend.prefill([PrefillChunk(row, _ids(8, row))])
            rows = list(range(count))
            times = [_timed(partial(self.backend.decode, rows, [5] * count)) for _ in range(20)]
            found[str(count)] = 1e3 * statistics.median(times)
            for row in rows:
                self.backend.release(row)
        return {"milliseconds": found}

    def _timed_prefill(self, length: int) -> float:
        times = []
        for _ in range(5):
            times.append(_timed(lambda: self.backend.prefill([PrefillChunk(0, _ids(length, 1))])))
            self.backend.release(0)
        return statistics.median(times)

    def on_device(self) -> dict[str, Any]:
        """An export that samples on the device: greedy texts, and draws that are among the best three."""
        found = self.exact([1, 2, 9, 17], 8)
        prompt = _ids(12, 3)
        sampled = Parameters(max_new_tokens=16, do_sample=True, top_k=3, ignore_eos=True, details=True)
        (new,) = self.texts([(prompt, 16, sampled)]).values()
        logits = self.reference.logits([*prompt, *new[:-1]])[len(prompt) - 1 :]
        lowest = [
            float(row.topk(3).values[-1] - row[token_id]) for row, token_id in zip(logits, new, strict=True)
        ]
        found["below_the_third_best"] = max(lowest)
        found["passed"] = bool(found["passed"] and max(lowest) <= self.tolerance)
        return found


def backend_of(compiled: Path) -> NeuronBackend:
    """The Neuron backend of a compiled model, not loaded yet."""
    config = read_neuron_config(compiled)
    shapes = StaticShapes.from_dict(config)
    return NeuronBackend(compiled, shapes)


class _NoText:
    def decode(self, _: object) -> str:
        return ""


def device_memory() -> dict[str, Any]:
    """What the driver says of each core's memory, in bytes, by its own names; empty without a driver."""
    found: dict[str, Any] = {}
    for path in sorted(_SYSFS.glob("neuron*/neuron_core*/stats/memory_usage/device_mem/**/present")):
        relative = path.relative_to(_SYSFS).as_posix().replace("/stats/memory_usage/device_mem", "")
        found[relative.removesuffix("/present")] = int(path.read_text(encoding="utf-8").split()[0])
    return found


def second_process(compiled: Path) -> dict[str, Any]:
    """What happens to another process that wants the same cores."""
    code = (
        "import sys; from pathlib import Path; from inf2kit.verify.backend_checks import backend_of; "
        "backend_of(Path(sys.argv[1])).load()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(compiled)], capture_output=True, text=True, check=False, timeout=300
    )
    lines = ended.stderr.strip().splitlines()
    return {
        "loaded": ended.returncode == 0,
        "recognised": "DeviceBusyError" in ended.stderr,
        "said": lines[-1][:500] if lines and ended.returncode else "",
    }


def _ids(count: int, seed: int) -> list[int]:
    return [2 + (seed * 7919 + index * (31 + seed % 7)) % 250 for index in range(count)]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _peak_host() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(compiled: Path, source: Path, result: Path) -> None:
    """Ask everything, and write the answers."""
    rows = Rows(compiled, source)
    if rows.config["on_device_sampling"]:
        answers = {"on-device-sampling": rows.on_device()}
    else:
        batch, room = rows.shapes.batch_size, rows.shapes.max_context_length
        many = [1 + (7 * index) % (room // 2) for index in range(3 * batch)]
        shards = sum(path.stat().st_size for path in (compiled / "checkpoint/weights").iterdir())
        answers = {
            "loads": {"seconds": rows.load_s, "passed": True},
            "ragged-exactness": rows.exact([2 + 5 * row for row in range(batch)], 16),
            "rows-come-and-go": rows.exact(many, 12, leave=[1, 4]),
            "short-prompts": {**rows.exact([1, 2, 1, 2, 9], 8), **rows.tie()},
            "prefill-cost": rows.prefill_cost(),
            "step-time": rows.step_time(),
            "device-memory": {"bytes": device_memory()},
            "host-memory": {"bytes": rows.load_host, "for_each_byte_of_weights": rows.load_host / shards},
            "cores-held": second_process(compiled),
        }
    result.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
