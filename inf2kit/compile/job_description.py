"""What a compilation job is to do: the JSON file beside its code, written here and read in its container."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from inf2kit.compile.spec import CompileSpec
from inf2kit.package.stores.encryption import Encryption
from inf2kit.presets import Preset
from inf2kit.presets.parser import parse_preset


@dataclass(frozen=True)
class JobDescription:
    """The work of one job.

    Attributes:
        spec: What to compile.
        preset: The preset that the package is for.
        output: ``s3://BUCKET/PREFIX`` of the packages.
        region: The region of job, endpoint and bucket.
        token_secret: The name or ARN of the secret that holds the hub's token; None for public models.
        bucket_owner: The account that the bucket belongs to; None for the account that calls.
        handler: The path of the user's ``inference.py`` in the job's input; None for inf2kit's own.
        encryption: How S3 encrypts the package; as the bucket's default says without it.
    """

    spec: CompileSpec
    preset: Preset
    output: str
    region: str
    token_secret: str | None = None
    bucket_owner: str | None = None
    handler: str | None = None
    encryption: Encryption | None = None

    def to_json(self) -> str:
        """Return the file's content."""
        values = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "spec": dataclasses.asdict(self.spec),
            "encryption": dataclasses.asdict(self.encryption) if self.encryption else None,
            "preset": {"name": self.preset.name, "values": self.preset.to_dict()},
        }
        return json.dumps(values)

    @classmethod
    def from_file(cls, path: Path) -> JobDescription:
        """Read the file that ``to_json`` has written."""
        values = json.loads(path.read_text(encoding="utf-8"))
        spec = CompileSpec.from_dict(values.pop("spec"))
        preset = values.pop("preset")
        encryption = values.pop("encryption", None)
        parsed = parse_preset(preset["name"], preset["values"])
        return cls(
            spec=spec,
            preset=parsed,
            encryption=Encryption(**encryption) if encryption else None,
            **values,
        )
