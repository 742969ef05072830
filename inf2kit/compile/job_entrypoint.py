"""What a compilation job's container runs, on the image's Python 3.10.

``python3 -m inf2kit.compile.job_entrypoint JOB.json``.

Whatever it is told, it neither prints nor keeps the hub's token.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from inf2kit import aws
from inf2kit.catalog import instances
from inf2kit.compile import disk_space, hub, local
from inf2kit.compile.job_progress import PLACE
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError, Inf2KitError
from inf2kit.package import at, gather, publish
from inf2kit.presets.schema import parse_preset

#: Where a job may work. The volume that the request asks for is documented for inputs and outputs only.
WORK = (Path("/opt/ml/processing/work"), Path("/tmp/work"), Path("/inf2kit-work"))  # noqa: S108 - the job is alone there
#: SageMaker shows what is written here as the job's ExitMessage: a kilobyte of UTF-8, or the job fails.
_MESSAGE, _MESSAGE_BYTES = Path("/opt/ml/output/message"), 1024


def run(job: Path) -> str:
    """Compile and package; the package's place.

    Raises:
        Inf2KitError: it cannot be done.
    """
    asked = json.loads(job.read_text(encoding="utf-8"))
    spec = CompileSpec.from_dict(asked["spec"])
    preset = parse_preset(asked["preset"]["name"], asked["preset"]["values"], instances=instances())
    store = at(asked["output"], asked["region"], asked["bucket_owner"])
    store.check_writable()
    token = secret(asked["token_secret"], asked["region"]) if asked["token_secret"] else None
    gated = preset.model.gated and spec.model == preset.model.id
    folder, revision = local.run(local.plan(spec, gated=gated), _say, token=token)
    contents = gather(spec.applied_to(preset), folder, revision=revision)
    return publish(contents, store, _say).where


def work_in(folders: tuple[Path, ...], environ: Any) -> None:
    """Choose the folder with the most room for all that is large, but for what the environment says."""
    for folder in folders:
        _say(f"{folder}: {disk_space.free(folder) / 1e9:.1f} GB free")
    work = Path(environ.setdefault("INF2KIT_HOME", str(disk_space.most(folders))))
    environ.setdefault("HF_HOME", str(work / "hub"))
    environ.setdefault("NEURON_COMPILE_CACHE_URL", str(work / "neuron-compile-cache"))


def secret(name: str, region: str) -> str:
    """The hub's token: a secret that is the token, or a JSON object with it under ``HF_TOKEN``.

    Raises:
        CompileError: it cannot be read.
    """
    with aws.translate_errors(CompileError, f"reading the secret {name}"):
        value = aws.client("secretsmanager", region).get_secret_value(SecretId=name).get("SecretString", "")
    try:
        token = json.loads(value)["HF_TOKEN"]
    except (ValueError, KeyError, TypeError):
        token = value
    if not isinstance(token, str) or not token.startswith(hub.TOKEN_PREFIX):
        raise CompileError(
            f"the secret {name} holds no token of the Hugging Face hub; store the token itself, or a JSON "
            "object with it under HF_TOKEN"
        )
    return token


def main(job: str, message_file: Path = _MESSAGE) -> int:
    """Run a job; its exit status. How it ended is left where SageMaker looks, and is the log's last line."""
    try:
        work_in(WORK, os.environ)
        message, line, status = (place := run(Path(job))), f"{PLACE}{place}", 0
    except Inf2KitError as error:
        message = line = str(error)
        status = 1
    except Exception as error:  # a job that ends by a traceback says "exit code 1" and nothing else
        what = str(error).partition("\n")[0]
        message = line = f"the job failed where nothing was expected to: {type(error).__name__}: {what}"
        status = 1
    _leave(message, message_file)
    _say(line)
    return status


def _leave(message: str, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        cut = message.encode("utf-8", "replace")[:_MESSAGE_BYTES].decode("utf-8", "ignore")
        file.write_text(cut, encoding="utf-8")
    except OSError as error:
        _say(f"{file} cannot be written ({error.strerror}): the job will show no ExitMessage")


def _say(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - the job's log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
