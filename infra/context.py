"""What people write after ``-c`` or into ``cdk.json``, as the props of the stacks."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inf2kit.cdk import packages
from inf2kit.cdk.compile_role import CompileProps
from inf2kit.cdk.packages import DeployedPackage
from inf2kit.cdk.props import EndpointProps
from inf2kit.errors import DeploymentError
from inf2kit.names import stack_name
from inf2kit.presets import Preset, load_preset, preset_names
from inf2kit.serving.wire.parameters import nearest

#: Keys that are not a prop's name.
_OWN = ("package", "manifest", "preset", "compile_output", "compile_token_secret")
#: Options whose default is computed.
_BY_SIZE = ("target_concurrency", "startup_timeout_s", "download_timeout_s", "volume_gb")
#: Context that cdk itself sets.
_OF_CDK = ("acknowledged-issue-numbers", "aws:", "@aws-cdk", "cdk-", "cli-", "tree", "availability-zones:")
_OPTIONS = {
    each.name: kind
    for each in dataclasses.fields(EndpointProps)
    if each.name not in ("preset", "package")
    for kind in (typing.get_type_hints(EndpointProps)[each.name],)
}


@dataclasses.dataclass(frozen=True)
class Context:
    """The context, read.

    Attributes:
        presets: One stack each.
        packages: What to deploy, by the preset's name.
        options: Props for every stack.
        own: Props for one preset's stack, by its name.
        compile_role: Props for the role of compilation jobs; None if nobody asks for it.
    """

    presets: tuple[Preset, ...]
    packages: Mapping[str, DeployedPackage]
    options: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    compile_role: CompileProps | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Context:
        """The context of an app.

        Raises:
            Inf2KitError: a key or value that cannot be meant.
        """
        presets = _presets(values.get("preset"))
        names = {preset.name for preset in presets}
        options: dict[str, Any] = {}
        own: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            if key in names:
                own[key] = _options(_mapping(key, value), f"context {key!r}: ")
            elif key not in _OWN and not key.startswith(_OF_CDK):
                options |= _options({key: value}, "")
        files = [Path(name) for name in _texts(values.get("manifest"))]
        deployed = [packages.read(uri, files) for uri in _texts(values.get("package"))]
        for package in deployed:
            name = package.manifest.preset_name
            if name not in names:
                raise DeploymentError(
                    f"{package.uri} was made for the preset {name!r}, and there is none of that name"
                    f"{nearest([name], *names) or ';'} give its file with -c preset={name}.toml"
                )
        by_preset = {package.manifest.preset_name: package for package in deployed}
        if len(by_preset) < len(deployed):
            raise DeploymentError("two packages are for the same preset; give one for each")
        return cls(presets, by_preset, options, own, _compile_role(values, options))

    def props(self, preset: Preset) -> EndpointProps:
        """The props of one preset's stack.

        Raises:
            DeploymentError: there is no package for it, or a prop makes no sense.
        """
        package = self.packages.get(preset.name)
        if package is None:
            made_for = ", ".join(self.packages)
            raise DeploymentError(
                f"there is no package for the preset {preset.name!r}"
                + (f" (the one given is for {made_for})" if made_for else "")
                + "; give -c package=s3://BUCKET/PREFIX/DIGEST/ of one that 'inf2kit package' has made"
            )
        return EndpointProps(preset=preset, package=package, **self._merged(preset))

    def stack_name(self, preset: Preset) -> str:
        """The name of one preset's stack, whether it can be deployed or not."""
        return stack_name(preset.name, self._merged(preset).get("stage", ""))

    def _merged(self, preset: Preset) -> dict[str, Any]:
        return {**self.options, **self.own.get(preset.name, {})}


def _compile_role(values: Mapping[str, Any], options: Mapping[str, Any]) -> CompileProps | None:
    output, secret = values.get("compile_output"), str(values.get("compile_token_secret") or "")
    if not output:
        if secret:
            raise DeploymentError(
                "compile_token_secret needs compile_output, the s3://BUCKET/PREFIX of packages"
            )
        return None
    return CompileProps(
        output=str(output),
        token_secret=secret,
        bucket_owner=options.get("bucket_owner", ""),
        bucket_kms_key_arn=options.get("package_kms_key_arn", ""),
        volume_kms_key_arn=options.get("kms_key_arn", ""),
        subnet_ids=options.get("subnet_ids", ()),
        security_group_ids=options.get("security_group_ids", ()),
    )


def _presets(files: Any) -> tuple[Preset, ...]:
    shipped = [preset for preset in map(load_preset, preset_names()) if preset.compute.backend == "neuron"]
    own = [load_preset(name if name.endswith(".toml") else f"{name}.toml") for name in _texts(files)]
    taken: dict[str, Preset] = {}
    for preset in (*shipped, *own):
        if not re.fullmatch(r"[a-zA-Z0-9._-]+", preset.name):
            raise DeploymentError(
                f"the preset {preset.name!r} cannot name a stack; use letters, digits, '.', '_' and '-'"
            )
        if preset.endpoint_name in taken:
            raise DeploymentError(
                f"two presets are named {preset.endpoint_name!r}; rename the file of your own one, "
                "as its name is that of its stack and endpoint"
            )
        taken[preset.endpoint_name] = preset
    return tuple(taken.values())


def _options(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    options = {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in _OPTIONS:
            raise DeploymentError(
                f"{where}unknown context {name!r}{nearest([name], *_OPTIONS, *_OWN) or ';'} "
                f"there are {', '.join((*_OWN, *_OPTIONS))}"
            )
        try:
            options[name] = _parsed(_OPTIONS[name], value)
            # Zero is what these have when nobody says anything; said, it is a mistake.
            if name in _BY_SIZE and not options[name]:
                raise DeploymentError(f"{where}{name} is {value!r}; leave it out, and it fits the model")
        except (ValueError, TypeError, OverflowError):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(
                _OPTIONS[name], "NAME=VALUE,NAME=VALUE"
            )
            raise DeploymentError(f"{where}{name} is {value!r}; it must be {kind}") from None
    return options


def _parsed(kind: Any, value: Any) -> Any:
    """A value as its prop has it: the command line gives texts, ``cdk.json`` gives JSON."""
    if kind is bool:
        return _truth(value)
    if kind in (int, float):
        return _number(kind, value)
    if kind is str:
        return str(value)
    if typing.get_origin(kind) is tuple:
        return tuple(_texts(value))
    if isinstance(value, Mapping):
        return {str(name): str(each) for name, each in value.items()}
    return dict(_pair(text) for text in _texts(value))


def _truth(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(value)
    return text == "true"


def _number(kind: type[int] | type[float], value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or number != kind(number):
        raise ValueError(value)
    return kind(number)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    return name, value


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    """The options of one preset: an object in ``cdk.json``, JSON on the command line."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        value = None
    if not isinstance(value, Mapping):
        raise DeploymentError(
            f'context {name!r} must be an object of options, such as {{"max_instances": 2}}'
        )
    return value


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    parts = value.split(",") if isinstance(value, str) else value
    return [str(part).strip() for part in parts if str(part).strip()]
