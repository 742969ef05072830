"""The engine's server, in this process: what a caller gets when the engine cannot read its call."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from tests.helpers.servers import wait_until


@dataclass(frozen=True)
class RunningServer:
    """A server whose scheduler runs, and the heartbeat that its supervisor would see."""

    server: EngineServer
    heartbeat: Heartbeat
    socket_path: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose tokenizer raises an error of its own for every word but "a"."""
    folder = tmp_path_factory.mktemp("server")
    weights = packages.write_weights(folder / "weights")
    tokenizer = Tokenizer(WordLevel({"a": 0, "</s>": 1}, unk_token="?"))  # noqa: S106
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(weights)  # noqa: S106
    preset = inf2kit.load_preset("smollm2-135m-local")
    preset = dataclasses.replace(preset, compute=dataclasses.replace(preset.compute, backend="simulated"))
    collect(preset, weights).materialise(folder / "model")
    settings = Settings.read(
        folder / "model", {"INF2KIT_RUN_DIR": str(folder / "run"), "INF2KIT_STALL_SECONDS": "3"}
    )
    heartbeat = Heartbeat.create()
    server = EngineServer(settings, heartbeat)
    server.listen()
    scheduler = server.load()
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    yield RunningServer(server, heartbeat, settings.socket_path(0))
    scheduler.stop()
    thread.join()


def call(path: Path, text: str) -> list[object]:
    body = {"inputs": text, "parameters": {"max_new_tokens": 2}}
    return list(call_engine(path, EngineCall("generate", body), until=time.monotonic() + 60))


def test_a_call_that_the_engine_cannot_read_is_a_fault_of_the_engine(
    running: RunningServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RequestError) as failed:
        call(running.socket_path, "unheard-of")
    assert (failed.value.status, failed.value.code) == (500, "internal_error")
    assert "Missing [UNK] token" in capfd.readouterr().err, "the log has the reason"
    assert isinstance(call(running.socket_path, "a")[-1], EndEvent), "the engine goes on"


def test_a_socket_that_does_not_answer_is_a_stuck_engine(running: RunningServer) -> None:
    """The scheduler makes progress, with nothing to do: calls would wait for their deadline, one and all."""
    released = threading.Event()
    running.server._loop.call_soon_threadsafe(released.wait)
    try:
        wait_until(lambda: running.heartbeat.stalled, "the engine counts as stuck")
    finally:
        released.set()
    wait_until(lambda: not running.heartbeat.stalled, "it makes progress again")
    assert isinstance(call(running.socket_path, "a")[-1], EndEvent)
