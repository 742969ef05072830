"""The CPU backend gives the logits of transformers' own forward pass, call by call."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from inf2kit.serving.engine.backend import PrefillChunk
from inf2kit.serving.engine.backend.cpu.backend import CpuBackend, native_dtypes
from inf2kit.serving.engine.backend.cpu.row_cache import RowCache
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.engine.request import Request
from inf2kit.serving.engine.scheduler import Scheduler
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Generation, Parameters
from tests.helpers.servers import PATIENCE_S

#: The difference of logits of magnitude 20 that are summed in another order.
CLOSE = 2e-3
SHAPES = StaticShapes.resolve(4, 700)


@pytest.fixture(scope="module")
def model(small_weights: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(small_weights, torch_dtype=torch.float32).eval()


@pytest.fixture
def backend(small_weights: Path) -> CpuBackend:
    cpu_backend = CpuBackend(small_weights, SHAPES, "float32")
    cpu_backend.load()
    return cpu_backend


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(5, 40_000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def test_rows_at_their_own_positions_and_half_encoded_ones_do_not_touch_each_other(
    backend: CpuBackend, model: Any
) -> None:
    rows: dict[int, list[int]] = {}

    def check(logits: torch.Tensor, row: int) -> None:
        expected = model(torch.tensor([rows[row]])).logits[0, -1]
        assert float((logits - expected).abs().max()) < CLOSE, (row, len(rows[row]))

    def prefill(*chunks: PrefillChunk) -> None:
        output = backend.prefill(chunks)
        for index, chunk in enumerate(chunks):
            rows.setdefault(chunk.row, []).extend(chunk.ids)
            if chunk.last:
                check(output.logits[index], chunk.row)

    def decode(*live: int) -> None:
        for row in live:
            rows[row].append(7 + row)
        output = backend.decode(live, [7 + row for row in live])
        assert output.logits.shape == (len(live), 49152)
        for index, row in enumerate(live):
            check(output.logits[index], row)

    prefill(PrefillChunk(1, ids(20, 1)), PrefillChunk(3, ids(1, 2)))
    decode(1, 3)
    prefill(PrefillChunk(0, ids(200, 3), last=False), PrefillChunk(2, ids(56, 4), last=False))
    decode(1, 3)
    prefill(PrefillChunk(0, ids(100, 5)), PrefillChunk(2, ids(1, 6)))
    decode(0, 1, 2, 3)
    backend.release(0)
    del rows[0]
    decode(1, 2, 3)
    prefill(PrefillChunk(0, ids(3, 7)))
    for _ in range(3):
        decode(0, 1, 2, 3)


def test_the_recorded_step_is_in_use(backend: CpuBackend) -> None:
    assert isinstance(backend._decode_step, torch.jit.ScriptModule), (
        "otherwise every step runs the Python between its operators"
    )


@torch.inference_mode()
def test_a_full_row_goes_on_as_if_its_window_had_been_the_prompt(small_weights: Path, model: Any) -> None:
    shapes = StaticShapes.resolve(2, 40)
    backend = CpuBackend(small_weights, shapes, "float32")
    backend.load()
    ended: list[Generation] = []
    prompt = ids(11, 9)

    class NoText(TokenDecoder):
        def decode(self, _: object) -> str:
            return ""

    scheduler = Scheduler(backend, NoText(), frozenset(), queue_size=0)
    scheduler.submit(
        [
            Request(
                prompt_ids=prompt,
                parameters=Parameters(max_new_tokens=90, overflow="sinks", details="tokens"),
                max_new_tokens=90,
                deadline=time.monotonic() + PATIENCE_S,
                on_token=lambda *_: None,
                on_end=lambda *args: ended.append(args[2]),
                on_error=lambda _: None,
            )
        ]
    )
    while not ended:
        scheduler.step()
    new_ids = [token.id for token in ended[0].tokens]
    row, all_ids, refills = list(prompt), list(prompt), 0
    while new_ids:
        room = shapes.sequence_length + 1 - len(row)
        chosen, new_ids = new_ids[:room], new_ids[room:]
        logits = model(torch.tensor([[*row, *chosen[:-1]]])).logits[0, len(row) - 1 :]
        for position, token_id in zip(logits, chosen, strict=True):
            assert float(position.max() - position[token_id]) < CLOSE
        all_ids += chosen
        row, refills = shapes.window(all_ids), refills + bool(new_ids)
    assert len(all_ids) == len(prompt) + 90
    assert refills >= 3
    assert f"full {refills} times" in ended[0].warnings[0]


def test_a_precision_that_the_processor_lacks_is_computed_in_float32_with_a_notice(
    small_weights: Path, tmp_path: Path
) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : fpu avx2 f16c")
    assert native_dtypes(flags) == {"float32"}
    flags.write_text("flags : fpu avx2 avx512_bf16 amx_fp16")
    assert native_dtypes(flags) == {"float32", "bfloat16", "float16"}
    assert CpuBackend(small_weights, SHAPES, "float32").notice is None
    for dtype in {"bfloat16", "float16"} - native_dtypes():
        notice = CpuBackend(small_weights, SHAPES, dtype).notice
        assert notice is not None
        assert dtype in notice


def test_rows_take_memory_as_they_are_used(small_weights: Path) -> None:
    """The 32 rows of 4096 tokens of a fleet's engine would be gigabytes."""

    def resident_bytes() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    config = AutoConfig.from_pretrained(small_weights)
    before = resident_bytes()
    cache = RowCache(config, StaticShapes.resolve(32, 4096), torch.float32)
    keys = cache.views(32, 4096)
    size = sum(layer.numel() * layer.element_size() for layer in keys)
    assert size > 500e6
    assert resident_bytes() - before < size / 20
    assert all(int(layer.data_ptr()) % 64 == 0 for layer in keys)
    keys[0][5, :, 9] = 1.0
    assert float(keys[0].sum()) == keys[0][5, :, 9].numel()
