"""What every backend shares: its contract, errors of a load that may pass, what a device refuses."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inf2kit.errors import ModelDirectoryError, RequestError
from inf2kit.serving.engine.backend import is_transient
from inf2kit.serving.engine.backend.base import BatchError, PrefillChunk
from inf2kit.serving.engine.backend.cpu.backend import check_weights
from inf2kit.serving.engine.backend.neuron import read_neuron_config
from inf2kit.serving.engine.backend.simulated import SimulatedBackend
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Parameters
from tests.helpers.scheduling import Sums

#: Its first byte is no memory of the process, so that reading it is an input/output error.
UNREADABLE = Path("/proc/self/mem")


def chained(cause: Exception, *, hidden: bool = False) -> Exception:
    """An error as libraries raise it in place of another one."""
    try:
        try:
            raise cause
        except Exception:
            if hidden:
                raise OSError("Can't load the tokenizer") from None
            raise OSError("Can't load the tokenizer")  # noqa: B904 - as transformers does
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory", "model.safetensors"), True),
        (OSError(errno.EIO, "Input/output error", "model.safetensors"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (Exception("Error while deserializing: Input/output error (os error 5)"), True),
        (Exception("Error while deserializing: No such file or directory (os error 2)"), False),
        (chained(OSError(errno.EIO, "Input/output error")), True),
        (chained(MemoryError()), True),
        (chained(FileNotFoundError(errno.ENOENT, "No such file", "x")), False),
        (chained(ValueError("Expecting value: line 1 column 1 (char 0)")), False),
        (chained(OSError(errno.EIO, "Input/output error"), hidden=True), False),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), False),
        (ValueError("invalid literal"), False),
        (KeyError("vocab_size"), False),
    ],
)
def test_a_lack_of_memory_and_a_failing_disk_may_be_over_and_a_wrong_file_is_not(
    error: Exception, expected: bool
) -> None:
    assert is_transient(error) is expected


def load_simulated(folder: Path) -> None:
    SimulatedBackend(folder, StaticShapes.resolve(1, 32)).load()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("neuron_config.json", read_neuron_config),
        ("config.json", load_simulated),
        ("model.safetensors.index.json", check_weights),
    ],
)
def test_a_disk_that_fails_is_no_damaged_package(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output error"):
        read(tmp_path)
    (tmp_path / name).unlink()
    for content in ("{", json.dumps({"weight_map": 5}), "[]"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(ModelDirectoryError, match=name):
            read(tmp_path)


def test_a_backend_that_samples_itself_refuses_what_it_cannot_honour() -> None:
    backend = Sums()
    backend.check(Parameters(seed=1, repetition_penalty=2.0))
    backend.samples_on_device, backend.supported_parameters = True, frozenset({"do_sample", "top_k"})
    backend.check(Parameters(do_sample=True, top_k=5, max_new_tokens=3, stop=("x",)))
    with pytest.raises(RequestError, match="cannot honour repetition_penalty, seed;") as refused:
        backend.check(Parameters(do_sample=True, seed=1, repetition_penalty=2.0))
    assert refused.value.status == 422
    for name, value in {
        "min_p": 0.1,
        "typical_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "logit_bias": ((1, 1.0),),
        "logprobs": True,
        "top_n_tokens": 2,
    }.items():
        with pytest.raises(RequestError, match=f"cannot honour {name};"):
            backend.check(Parameters(**{name: value}))  # type: ignore[arg-type]
    backend.check(Parameters(stop_token_ids=(3,), n=2, truncate=5, decoder_input_details=True))


def test_the_contract_is_asserted() -> None:
    backend = Sums()
    backend.prefill([PrefillChunk(0, [1]), PrefillChunk(2, [1])])
    with pytest.raises(BatchError, match="all live rows"):
        backend.decode([0], [1])
    with pytest.raises(BatchError, match="row 0 is taken"):
        backend.prefill([PrefillChunk(0, [1])])
    with pytest.raises(BatchError, match="4 tokens at once"):
        backend.prefill([PrefillChunk(1, [1] * 4)])
    backend.max_prefill_tokens = None
    with pytest.raises(BatchError, match="64 prompt tokens"):
        backend.prefill([PrefillChunk(1, [1] * 64)])
    with pytest.raises(BatchError, match="whole, one by one"):
        backend.prefill([PrefillChunk(1, [1], last=False)])
