"""The engine's server, in this process: what a caller gets when the engine cannot read its call."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import inf2kit
from inf2kit.errors import RequestError
from inf2kit.package.contents import collect
from inf2kit.serving.engine.events import EndEvent
from inf2kit.serving.engine.protocol import EngineCall, call_engine
from inf2kit.serving.engine.server import EngineServer
from inf2kit.serving.settings import Settings
from inf2kit.serving.supervision.heartbeat import Heartbeat
from tests.helpers import packages


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server whose tokenizer raises an error of its own for every word but "a"."""
    folder = tmp_path_factory.mktemp("server")
    weights = packages.write_weights(folder / "weights")
    tokenizer = Tokenizer(WordLevel({"a": 0, "</s>": 1}, unk_token="?"))  # noqa: S106
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(weights)  # noqa: S106
    preset = inf2kit.load_preset("smollm2-135m-local")
    preset = dataclasses.replace(preset, compute=dataclasses.replace(preset.compute, backend="simulated"))
    collect(preset, weights).materialise(folder / "model")
    settings = Settings.read(folder / "model", {"INF2KIT_RUN_DIR": str(folder / "run")})
    server = EngineServer(settings, Heartbeat.create())
    server.listen()
    scheduler = server.load()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    yield settings.socket_path(0)
    scheduler.stop()
    thread.join()


def call(path: Path, text: str) -> list[object]:
    body = {"inputs": text, "parameters": {"max_new_tokens": 2}}
    return list(call_engine(path, EngineCall("generate", body), until=time.monotonic() + 60))


def test_a_call_that_the_engine_cannot_read_is_a_fault_of_the_engine(
    socket_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RequestError) as failed:
        call(socket_path, "unheard-of")
    assert (failed.value.status, failed.value.code) == (500, "internal_error")
    assert "Missing [UNK] token" in capfd.readouterr().err, "the log has the reason"
    assert isinstance(call(socket_path, "a")[-1], EndEvent), "the engine goes on"
