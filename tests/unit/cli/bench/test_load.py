"""``inf2kit bench load``: wrong options are one sentence before anything is sent, and outputs are "
"complete."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inf2kit import paths
from inf2kit.catalog.calibration import Calibration
from inf2kit.cli.commands import main
from tests.helpers.fault_server import FaultServer, fault_server, refuse
from tests.helpers.faulty_endpoint import FaultyEndpoint
from tests.helpers.servers import wait_until


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with fault_server() as server:
        server.plans["double"] = [FaultyEndpoint()]
        yield server


def load(server: FaultServer, *options: str) -> Result:
    arguments = ["bench", "load", "double", "--endpoint-url", server.url, "--input-tokens", "24-40", *options]
    return CliRunner().invoke(main, arguments, standalone_mode=True)


def test_everything_is_written(server: FaultServer, tmp_path: Path) -> None:
    options = (
        "--callers",
        "1,2",
        "--rate",
        "50",
        "--requests",
        "30",
        "--new-tokens",
        "4-10",
        "--output",
        "out",
    )
    result = load(server, *options, "--slo", "ttft=1,latency=5")
    assert result.exit_code == 0, result.output
    for words in (
        "LOAD",
        "1 caller",
        "2 callers",
        "50/s",
        "time_to_first_token [s]",
        "report: out/report.html",
    ):
        assert words in result.output
    report = json.loads((tmp_path / "out" / "load.json").read_bytes())
    assert [cell["label"] for cell in report["cells"]] == ["1 caller", "2 callers", "50/s"]
    for cell in report["cells"]:
        assert next(iter(cell)) == "samples"
        assert len(cell["samples"]) == 30
        assert cell["metrics"]["goodput"]["avg"] > 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3, "two of the closed loops, and a timeline"
    assert not any(part in page for part in ("<script", "src=", 'href="http', "@import")), (
        "it needs no network"
    )
    exports = sorted(path.parent.name for path in (tmp_path / "out").glob("*/profile_export_aiperf.json"))
    assert exports == ["1-caller", "2-callers", "50-per-s"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--callers", "0"], "must be whole numbers above 0"),
        (["--callers", "10001"], "up to 10,000"),
        (["--callers", "1,x"], "must be whole numbers above 0"),
        (["--rate", "-1"], "must be numbers above 0"),
        (["--new-tokens", "9-3"], "write 3-9"),
        (["--new-tokens", "-5"], "a range such as 100-500"),
        (["--input-tokens", "220~"], "MEAN~DEVIATION such as 220~90"),
        (["--slo", "speed=1"], "there is ttft (time_to_first_token)"),
        (["--slo", "ttft=fast"], "no number of seconds"),
        (["--slo", "latencey=1"], "did you mean 'latency'?"),
        (["--replay", "1"], "needs a --trace whose every line has time_s"),
        (["--replay", "1", "--callers", "2"], "leave out --callers and --rate"),
        (["--replay", "0"], "must be numbers above 0"),
        (["--slo", "ttft=1", "--no-stream"], "need streamed answers"),
        (["--trace", "none.jsonl"], "does not exist"),
        (["--output", "file"], "is a file"),
    ],
)
def test_wrong_options_are_a_sentence(
    server: FaultServer, tmp_path: Path, options: list[str], sentence: str
) -> None:
    (tmp_path / "file").touch()
    result = load(server, *options)
    assert result.exit_code == 2
    assert sentence in result.output
    assert server.requests["double"] == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--output", "file/out"], "nothing can be written to file/out: Not a directory; give another"),
        (["--metrics-url", "http://127.0.0.1:9/metrics"], "there are no metrics of a container at"),
        (["--endpoint-url", "nonsense"], "'nonsense' is no address"),
        (["--trace", "bytes"], "is no text of lines"),
    ],
)
def test_what_cannot_be_used_is_noticed_before_anything_is_sent(
    server: FaultServer, tmp_path: Path, options: list[str], sentence: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    result = load(server, "--output", "out", *options)
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.count("\n") == 1
    assert server.requests["double"] == 0
    assert not (tmp_path / "out").exists()


def test_a_trace_is_replayed_at_its_times(server: FaultServer, tmp_path: Path) -> None:
    lines = ({"input_tokens": 24, "new_tokens": 4, "time_s": 50 + number / 20} for number in range(31))
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = load(server, "--trace", "trace.jsonl", "--replay", "2,4", "--output", "out", "--quiet")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "load.json").read_bytes())
    assert [cell["label"] for cell in report["cells"]] == ["replay x2", "replay x4"]
    for cell, speed in zip(report["cells"], (2, 4), strict=True):
        due_s = sorted(sample["due_s"] for sample in cell["samples"])
        assert due_s == pytest.approx([number / 20 / speed for number in range(31)])
        assert all(sample["sent_s"] >= sample["due_s"] for sample in cell["samples"])
        assert cell["stop_s"] == pytest.approx(1.5 / speed)
    assert (tmp_path / "out" / "replay-x2" / "profile_export_aiperf.json").exists()


def test_an_endpoint_that_refuses_everything(server: FaultServer, tmp_path: Path) -> None:
    server.plans["double"] = [refuse(403, "AccessDeniedException", {"Message": "m"})]
    result = load(server, "--output", "out", "--quiet")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_endpoint_that_refuses_everything_after_the_warm_up(server: FaultServer, tmp_path: Path) -> None:
    """The cell ends after some failures, and what there is is kept."""
    trace = tmp_path / "trace.jsonl"
    trace.write_text('"Once"\n', encoding="utf-8")
    server.plans["double"] = [refuse(403, "AccessDeniedException", {"Message": "m"})]
    result = load(server, "--trace", str(trace), "--warm-up", "0", "--callers", "2,4", "--output", "out")
    assert result.exit_code == 1
    assert "given up, since every call failed" in result.output
    (cell,) = json.loads((tmp_path / "out" / "load.json").read_bytes())["cells"]
    assert set(cell["failures"]) == {"access: AccessDeniedException"}


def test_a_calibration_is_stored_for_the_preset(server: FaultServer, tmp_path: Path) -> None:
    """The double answers its calls independently of each other, so a full loop takes as long as a call "
    "alone."""
    server.plans["double"] = [FaultyEndpoint(step_s=0.01)]
    arguments = ["bench", "load", "double", "--endpoint-url", server.url, "--input-tokens", "24"]
    options = ["--new-tokens", "10", "--seconds", "1", "--calibrate", "--output", "out", "--quiet"]
    unknown = CliRunner().invoke(main, [*arguments, *options])
    assert unknown.exit_code == 1
    assert "--preset NAME" in unknown.output
    for _ in range(10):
        result = CliRunner().invoke(main, [*arguments, *options, "--preset", "llama2-7b-throughput"])
        if "calibrate again" not in result.output:  # said where something else used the machine
            break
    assert result.exit_code == 0, result.output
    path = paths.calibration("llama2-7b-throughput")
    assert str(path) in result.output
    calibration = Calibration.read(path)
    assert (calibration.batch_size, calibration.new_tokens) == (4, 10)
    assert calibration.prefill_tokens == (16, 24, 96)
    assert calibration.step_s + calibration.row_step_s > 0.009
    report = json.loads((tmp_path / "out" / "load.json").read_bytes())
    labels = [cell["label"] for cell in report["cells"]]
    assert labels[:2] == ["1 caller", "4 callers"]
    assert labels[2].endswith("/s")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--callers", "2"], "chooses the loads itself"),
        (["--no-stream"], "needs streamed answers"),
        (["--transport", "jobs"], "needs streamed answers"),
    ],
)
def test_what_a_calibration_cannot_be_made_of(server: FaultServer, options: list[str], sentence: str) -> None:
    result = load(server, "--calibrate", *options)
    assert result.exit_code == 2
    assert sentence in result.output


@pytest.mark.parametrize("transport", ["async", "boto3"])
def test_an_interruption_waits_for_no_answer(server: FaultServer, tmp_path: Path, transport: str) -> None:
    """Calls that hang are left behind: the command ends, and not only when they do."""
    (tmp_path / "trace.jsonl").write_text('"Once"\n', encoding="utf-8")
    released = threading.Event()

    def hang(connection: socket.socket, is_stream: bool) -> None:
        released.wait()

    server.plans["double"] = [FaultyEndpoint(), hang]
    options = ["--trace", "trace.jsonl", "--warm-up", "0", "--callers", "2", "--transport", transport]
    inf2kit = str(Path(sys.executable).parent / "inf2kit")
    command = subprocess.Popen(
        [inf2kit, "bench", "load", "double", "--endpoint-url", server.url, *options, "--output", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: server.requests["double"] >= 3, "one call has ended, and two hang")
        command.send_signal(signal.SIGINT)
        # The client itself would give a call up after 70 s.
        output, _ = command.communicate(timeout=60)
    finally:
        command.kill()
        released.set()
    assert command.returncode == 128 + signal.SIGINT
    assert "it was interrupted" in output
