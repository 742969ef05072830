"""``bench tables`` and ``bench charts``, against a double that counts words as tokens and answers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from inf2kit.cli.commands import main
from inf2kit.package import collect
from inf2kit.presets import load_preset
from inf2kit.serving.wire import AnswerOptions, Generation, response_writer
from tests.helpers.fault_server import Fault, FaultServer, fault_server, head, read_request, refuse
from tests.helpers.recorded_tables import measurement
from tests.helpers.servers import PATIENCE_S, wait_until
from tests.helpers.simulated_preset import write_preset

PRESET = "llama2-7b-throughput"


def word_counter(count: Callable[[int], int] = lambda asked: asked) -> Fault:
    """An endpoint whose tokens are words; ``count`` is how many new ones it counts for those asked for."""

    def answer(connection: Any, is_stream: bool) -> None:
        body = json.loads(read_request()[1])
        asked = body["parameters"]["max_new_tokens"]
        if asked == 0:
            refused = {"error": "max_new_tokens is 0", "code": "invalid_parameter"}
            message = {"OriginalMessage": json.dumps(refused), "OriginalStatusCode": 422, "Message": "x"}
            refuse(424, "ModelError", message)(connection, is_stream)
            return
        texts = [body["inputs"]] if isinstance(body["inputs"], str) else body["inputs"]
        generations = [
            Generation(
                "",
                "",
                "length",
                1 + len(text.split()),
                count(asked),
                warnings=("simulated: words are counted",),
            )
            for text in texts
        ]
        content = json.dumps(
            response_writer(AnswerOptions("tgi", details="counts")).body(generations)
        ).encode()
        connection.sendall(head(200, "application/json", len(content)) + content)

    return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with fault_server() as server:
        server.plans[PRESET] = [word_counter()]
        yield server


def run(server: FaultServer, folder: Path, *options: str, endpoint: str = PRESET) -> Result:
    arguments = ["bench", "tables", endpoint, "--endpoint-url", server.url, "--output", str(folder), *options]
    return CliRunner().invoke(main, arguments)


def test_the_tables_are_printed_and_written(server: FaultServer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(server, tmp_path / "new", "--runs", "2")
    assert result.exit_code == 0, result.output
    assert "simulated: words are counted" in result.stdout
    assert "no Neuron device was used" in result.stdout
    assert result.stdout.count("| 2 |") == 12, "each cell has two good runs"
    assert "11 of 12: run 2 of 2: 768 new tokens after 256" in result.stderr
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert {"tables.json", "tables.md", "tables.csv", "optimum-neuron.json"} < names
    assert {"encoding.png", "end_to_end.svg", "throughput.svg"} < names
    value = json.loads((tmp_path / "new" / "tables.json").read_text(encoding="utf-8"))
    assert [sample["counted_new_tokens"] for sample in value["samples"][:4]] == [[1] * 4] * 3 + [[256] * 4]
    assert value["preset"] == PRESET
    assert len(value["round_trips_s"]) == 7


def test_of_several_engines_the_figures_are_those_of_one(server: FaultServer, tmp_path: Path) -> None:
    server.plans["fleet"] = [word_counter()]
    arguments = ["--preset", "llama3.1-8b-fleet", "--runs", "1", "--no-charts"]
    result = run(server, tmp_path, *arguments, endpoint="fleet")
    assert result.exit_code == 0, result.output
    assert "the figures are those of one of 3 engines, to which a list of prompts goes" in result.output


def test_a_lying_endpoint_is_marked(server: FaultServer, tmp_path: Path) -> None:
    server.plans[PRESET] = [word_counter(lambda asked: min(asked, 371))]
    result = run(server, tmp_path / "new", "--runs", "1", "--no-charts", "--quiet")
    assert result.exit_code == 0, result.output
    assert "| 512 | - [1] | - | 0 | 5.3 | - |" in result.stdout
    assert "[1] 1 of 1 runs: the server counted 371 new tokens instead of 512." in result.stdout
    assert "| 256 | " in result.stdout


def test_an_endpoint_that_counts_nothing_right_is_a_sentence(server: FaultServer, tmp_path: Path) -> None:
    server.plans.pop(PRESET)  # its answers have four new tokens and three input tokens, whatever is asked
    result = run(server, tmp_path / "new", "--no-charts", "--quiet")
    assert result.exit_code == 1
    assert "no prompt of an exact length can be built" in result.stderr
    assert not (tmp_path / "new").exists()


def test_an_unknown_preset_has_to_be_said(server: FaultServer, tmp_path: Path) -> None:
    result = run(server, tmp_path / "new", "--no-charts", endpoint="mine")
    assert result.exit_code == 2
    assert "which preset endpoint 'mine' serves is not known" in result.stderr
    server.plans["mine"] = [word_counter()]
    options = ("--no-charts", "--quiet", "--runs", "1", "--preset", "llama2-7b-budget")
    result = run(server, tmp_path / "new", *options, endpoint="mine")
    assert result.exit_code == 0, result.output
    assert "llama2-7b-budget; 1 row of 2048 tokens" in result.stdout


def test_results_are_never_overwritten(server: FaultServer, tmp_path: Path) -> None:
    options = ("--no-charts", "--quiet", "--runs", "1")
    assert run(server, tmp_path, *options).exit_code == 0
    before = (tmp_path / "tables.json").read_bytes()
    result = run(server, tmp_path, *options)
    assert (result.exit_code, "has the results of another run" in result.stderr) == (2, True)
    assert (tmp_path / "tables.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give the name of an endpoint, or --model DIR"),
        (["e", "--model", "m"], "give the name of an endpoint, or --model DIR"),
        (["e", "--batch-size", "2"], "an endpoint has the rows of its preset"),
    ],
)
def test_arguments_that_contradict_each_other(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["bench", "tables", *arguments, "--no-charts"])
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.output


def test_ctrl_c_writes_what_there_is(server: FaultServer, tmp_path: Path) -> None:
    def slow(connection: Any, is_stream: bool) -> None:
        if json.loads(read_request()[1])["parameters"]["max_new_tokens"] == 512:
            waiting.append(True)
            time.sleep(30)
        else:
            word_counter()(connection, is_stream)

    waiting: list[bool] = []
    server.plans[PRESET] = [slow]
    inf2kit = str(Path(sys.executable).with_name("inf2kit"))
    folder = tmp_path / "new"
    arguments = ["bench", "tables", PRESET, "--endpoint-url", server.url, "--output", str(folder)]
    process = subprocess.Popen(
        [inf2kit, *arguments, "--no-charts"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: waiting, "the fifth call")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted: not all calls were made" in stdout
    assert len(json.loads((folder / "tables.json").read_text(encoding="utf-8"))["samples"]) == 4


def test_charts_of_several_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = []
    for name in ("one", "two"):
        paths.append(tmp_path / f"{name}.json")
        measurement(name=name).write(paths[-1], {})
    output = tmp_path / "charts"
    result = CliRunner().invoke(main, ["bench", "charts", *map(str, paths), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert len(list(output.iterdir())) == len(result.stdout.splitlines()) == 6
    paths[0].write_text("{}", encoding="utf-8")
    result = CliRunner().invoke(main, ["bench", "charts", str(paths[0]), "--output", str(output)])
    assert (result.exit_code, "is no result of 'inf2kit bench tables'" in result.stderr) == (1, True)


def test_a_package_in_this_process(small_weights: Path, tmp_path: Path) -> None:
    preset = write_preset(tmp_path / "own.toml", rows=2, sequence_length=520)
    package = tmp_path / "package"
    collect(load_preset(preset), small_weights).materialise(package)
    arguments = ["bench", "tables", "--model", str(package), "--runs", "1", "--no-charts", "--quiet"]
    result = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert "on this CPU (" in result.stdout
    assert "simulated: these tokens come from the simulated backend" in result.stdout
    assert "There is no network between caller and engine." in result.stdout
    assert "too short: a row has 520 tokens" in result.stdout
    measured = json.loads((tmp_path / "new" / "tables.json").read_text(encoding="utf-8"))
    assert measured["preset"] == "own"
    assert [sample["counted_new_tokens"] for sample in measured["samples"]] == [[1, 1], [1, 1], [256, 256]]
