"""The program of a compilation job's container, on the image's Python 3.10.

``python3 -m inf2kit.compile.job_entrypoint JOB.json``.

It never prints or stores the hub's token.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path

from inf2kit import aws
from inf2kit.compile import disk_space, hub, local
from inf2kit.compile.job_description import JobDescription
from inf2kit.compile.job_progress import PACKAGE_LINE
from inf2kit.errors import CompileError, Inf2KitError
from inf2kit.package import collect, open_store, publish

#: Folders that a job may work in. The request's volume is documented for inputs and outputs only.
WORK = (Path("/opt/ml/processing/work"), Path("/tmp/work"), Path("/inf2kit-work"))  # noqa: S108 - the job is alone there
_TOKEN = re.compile(hub.TOKEN_PREFIX + "[A-Za-z0-9_]+")
#: SageMaker shows this file's content as the job's ExitMessage. Beyond a kilobyte of UTF-8 the job fails.
_MESSAGE, _MESSAGE_BYTES = Path("/opt/ml/output/message"), 1024


def run(job_file: Path) -> str:
    """Compile and package; return the package's place.

    Raises:
        Inf2KitError: the model cannot be compiled or packaged.
    """
    job = JobDescription.from_file(job_file)
    store = open_store(job.output, job.region, job.bucket_owner, job.encryption)
    store.check_writable()
    token = read_token(job.token_secret, job.region) if job.token_secret else None
    gated = job.preset.model.gated and job.spec.model == job.preset.model.id
    compiled = local.execute(job.spec, _log, gated=gated, token=token)
    handler = job_file.parent / job.handler if job.handler else None
    contents = collect(
        job.spec.apply_to(job.preset), compiled.path, revision=compiled.revision, handler=handler
    )
    plan = publish.plan(contents, store)
    publish.execute(plan, _log)
    return plan.uri


def choose_work_folder(folders: tuple[Path, ...], environ: MutableMapping[str, str]) -> None:
    """Put everything large into the folder with the most free space, unless the environment names another."""
    for folder in folders:
        _log(f"{folder}: {disk_space.free_bytes(folder) / 1e9:.1f} GB free")
    work = Path(environ.setdefault("INF2KIT_HOME", str(disk_space.find_largest(folders))))
    environ.setdefault("HF_HOME", str(work / "hub"))
    environ.setdefault("NEURON_COMPILE_CACHE_URL", str(work / "neuron-compile-cache"))


def read_token(secret: str, region: str) -> str:
    """Read the hub's token: the secret is the token, or a JSON object with it under ``HF_TOKEN``.

    Raises:
        CompileError: the secret cannot be read, or holds no token.
    """
    with aws.translate_errors(CompileError, f"reading the secret {secret}"):
        client = aws.client("secretsmanager", region)
        value = client.get_secret_value(SecretId=secret).get("SecretString", "")
    try:
        token = json.loads(value)["HF_TOKEN"]
    except (ValueError, KeyError, TypeError):
        token = value
    # A secret that was made from a file ends in the file's newline.
    token = token.strip() if isinstance(token, str) else ""
    if not _TOKEN.fullmatch(token):
        raise CompileError(
            f"the secret {secret} holds no token of the Hugging Face hub; store the token itself, or a JSON "
            "object with it under HF_TOKEN"
        )
    return token


def main(job_file: str, message_file: Path = _MESSAGE) -> int:
    """Run a job and return its exit status. The result is SageMaker's message and the log's last line."""
    try:
        choose_work_folder(WORK, os.environ)
        message = run(Path(job_file))
        line, status = f"{PACKAGE_LINE}{message}", 0
    except Inf2KitError as error:
        message = line = str(error)
        status = 1
    except Exception as error:  # a job that ends by a traceback reports "exit code 1" and nothing else
        reason = hub.redact(str(error).partition("\n")[0])
        message = line = f"the job failed where nothing was expected to: {type(error).__name__}: {reason}"
        status = 1
    _write_message(message, message_file)
    _log(line)
    return status


def _write_message(message: str, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        cut = message.encode("utf-8", "replace")[:_MESSAGE_BYTES].decode("utf-8", "ignore")
        file.write_text(cut, encoding="utf-8")
    except OSError as error:
        _log(f"{file} cannot be written ({error.strerror}): the job will show no ExitMessage")


def _log(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the job's log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
