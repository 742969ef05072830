"""A compilation job's container: ``python3 -m inf2kit.compile.inside JOB.json``, on the image's Python 3.10.

Whatever it is told, it neither prints nor keeps the hub's token.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from inf2kit import aws
from inf2kit.compile import here, hub
from inf2kit.compile.spec import CompileSpec
from inf2kit.errors import CompileError, Inf2KitError
from inf2kit.facts import instances
from inf2kit.package import at, gather, publish
from inf2kit.presets.schema import parse_preset

#: SageMaker shows what is written here as the job's ExitMessage, up to a kilobyte.
_MESSAGE = Path("/opt/ml/output/message")


def run(job: Path) -> str:
    """Compile and package; the package's place."""
    asked = json.loads(job.read_text(encoding="utf-8"))
    spec = CompileSpec(**asked["spec"])
    preset = parse_preset(asked["preset"]["name"], asked["preset"]["values"], instances=instances())
    store = at(asked["output"], asked["region"])
    store.check_writable()
    token = secret(asked["token_secret"], asked["region"]) if asked["token_secret"] else None
    gated = preset.model.gated and spec.model == preset.model.id
    folder, revision = here.run(here.plan(spec, gated=gated), _say, token=token)
    contents = gather(spec.applied_to(preset), folder, revision=revision)
    return publish(contents, store, _say).where


def secret(name: str, region: str) -> str:
    """The hub's token: a secret that is the token, or a JSON object with it under ``HF_TOKEN``.

    Raises:
        CompileError: it cannot be read.
    """
    with aws.errors(CompileError, f"reading the secret {name}"):
        value = aws.client("secretsmanager", region).get_secret_value(SecretId=name).get("SecretString", "")
    try:
        found = json.loads(value)["HF_TOKEN"]
    except (ValueError, KeyError, TypeError):
        found = value
    if not isinstance(found, str) or not found.startswith(hub.TOKEN_PREFIX):
        raise CompileError(
            f"the secret {name} holds no token of the Hugging Face hub; store the token itself, or a JSON "
            "object with it under HF_TOKEN"
        )
    return found


def _say(what: str) -> None:
    print(what, flush=True)  # noqa: T201 - the job's log


def main(job: str) -> int:
    """Run a job; its exit status."""
    try:
        message, status = run(Path(job)), 0
    except Inf2KitError as error:
        message, status = str(error), 1
    _say(message)
    if _MESSAGE.parent.is_dir():
        _MESSAGE.write_text(message[:1000], encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
