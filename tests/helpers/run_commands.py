"""Run every command of the command line in this process, and print what each did as JSON.

``python run_commands.py FOLDER``: a program for an environment of its own, which has nothing of the tests.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator

import click
from click.testing import CliRunner

from inf2kit.cli.commands import main

FOLDER = sys.argv[1]
#: A value for each required argument and option, by its name.
VALUES = {
    "answers_file": f"{FOLDER}/answers.jsonl",
    "endpoint": "nobody",
    "first_file": f"{FOLDER}/model/config.json",
    "name": "nobody",
    "output": f"{FOLDER}/packages",
    "package": f"{FOLDER}/packages/{'0' * 64}",
    "place": FOLDER,
    "preset": "smollm2-135m-local",
    "prompt": "Hello",
    "requests_file": f"{FOLDER}/requests.jsonl",
    "results": f"{FOLDER}/model/config.json",
    "second_file": f"{FOLDER}/model/config.json",
    "source": f"{FOLDER}/model",
}
#: Other ways to run a command, which need other modules.
VARIANTS = f"""
bench tables llama2-7b-budget --no-charts --region eu-west-1
presets check llama2-7b-budget
presets check --model {FOLDER}/model --instance-type ml.inf2.xlarge --batch-size 1 --sequence-length 128
    --tensor-parallel-size 2
plan llama2-7b-throughput --rate 1 --seeds 2
plan llama2-7b-throughput --rate 1 --seeds 2 --chart {FOLDER}/plan
package embedded --preset smollm2-135m-local --output {FOLDER}/packages
package {FOLDER}/model --preset smollm2-135m-local --output {FOLDER}/packages --dry-run
package {FOLDER}/model --preset llama2-7b-budget --rehearsal --output s3://bucket/models
compile llama2-7b-budget --output {FOLDER}/packages
compile llama2-7b-budget --output {FOLDER}/packages --dry-run
compile llama2-7b-budget --output s3://bucket/models --job --role arn:aws:iam::123456789012:role/r
    --region eu-west-1 --token-secret hub --dry-run
compile smollm2-135m-local --output {FOLDER}/packages --dry-run
compile smollm2-135m-local --model {FOLDER}/model --output {FOLDER}/packages
demo --quick
cleanup --local
doctor --offline
doctor --offline --json
local down --all
local up {FOLDER}/nothing.toml
verify-device --questions
generate nobody Hello --endpoint-url http://127.0.0.1:9
generate nobody Hello --stream --endpoint-url http://127.0.0.1:9
packages list s3://bucket/models
packages prune {FOLDER} --dry-run
prices refresh --region eu-west-1
"""


def walk(command: click.Command, path: list[str]) -> Iterator[list[str]]:
    """Yield the words of every command, with all that it requires."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from walk(child, [*path, name])
        if not command.invoke_without_command:
            return
    words = list(path)
    for parameter in command.params:
        needed = parameter.required or (isinstance(parameter, click.Argument) and parameter.nargs == 1)
        if needed and parameter.name not in VALUES:
            raise AssertionError(f"give {' '.join(path)} a value for {parameter.name!r} in VALUES")
        if needed and isinstance(parameter, click.Option):
            words.append(parameter.opts[0])
        if needed:
            words.append(VALUES[str(parameter.name)])
    yield words


def run(words: list[str]) -> dict[str, object]:
    """Run one command."""
    result = CliRunner().invoke(main, words, prog_name="inf2kit")
    error = result.exception
    is_exit = error is None or isinstance(error, SystemExit)
    return {
        "command": " ".join(words),
        "status": result.exit_code,
        "output": result.output,
        "traceback": "" if is_exit else "".join(traceback.format_exception(error)),
    }


if __name__ == "__main__":
    variants = VARIANTS.replace("\n    ", " ").strip().splitlines()
    commands = [*walk(main, []), *map(str.split, variants)]
    helps = [[*words[:depth], "--help"] for words in commands for depth in range(3)]
    unique = {tuple(words): words for words in [*commands, *helps, ["--version"]]}
    print(json.dumps([run(words) for words in unique.values()]))
