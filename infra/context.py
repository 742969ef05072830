"""The context, which people write after ``-c`` or into ``cdk.json``, as the props of the stacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inf2kit.cdk import CompileRoleProps, DeployedPackage, EndpointProps
from inf2kit.errors import DeploymentError, suggest
from inf2kit.names import stack_name
from inf2kit.presets import Preset, load_preset, preset_names
from infra.foreign import is_foreign, is_worth_a_note
from infra.options import APP_KEYS, OPTIONS, parse_object, parse_options, split_list


@dataclass(frozen=True)
class Context:
    """The parsed context of the app.

    Attributes:
        presets: The presets for Neuron, each with a stack of its own.
        packages: The packages to deploy, by preset name.
        options: Endpoint props for every stack.
        preset_options: Endpoint props for the stack of one preset, by preset name.
        compile_role: Props of the role of compilation jobs, or None without ``compile_output``.
        passed_over: Keys that are none of this app's, though somebody may have meant them for it.
    """

    presets: tuple[Preset, ...]
    packages: Mapping[str, DeployedPackage]
    options: Mapping[str, Any]
    preset_options: Mapping[str, Mapping[str, Any]]
    compile_role: CompileRoleProps | None
    passed_over: tuple[str, ...] = ()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Context:
        """Parse the context of an app.

        Args:
            values: The context by key: texts from the command line, any JSON from ``cdk.json``.

        Raises:
            Inf2KitError: a key is unknown or a value is wrong.
        """
        presets = _load_presets(split_list(values.get("preset")))
        names = {preset.name for preset in presets}
        own = (*APP_KEYS, *OPTIONS, *sorted(names))
        options: dict[str, Any] = {}
        preset_options: dict[str, dict[str, Any]] = {}
        foreign = [key for key, value in values.items() if key not in own and is_foreign(key, value, own)]
        for key, value in values.items():
            if key in names:
                preset_options[key] = parse_options(parse_object(key, value), where=f"context {key!r}: ")
            elif key not in APP_KEYS and key not in foreign:
                options |= parse_options({key: value}, presets=sorted(names))
        return cls(
            presets,
            _read_packages(split_list(values.get("package")), split_list(values.get("manifest")), names),
            options,
            preset_options,
            _compile_role_props(values, options),
            tuple(filter(is_worth_a_note, foreign)),
        )

    def endpoint_props(self, preset: Preset) -> EndpointProps:
        """The props of one preset's stack.

        Raises:
            DeploymentError: the context has no package for the preset, or a prop is wrong.
        """
        package = self.packages.get(preset.name)
        if package is None:
            others = ", ".join(self.packages)
            raise DeploymentError(
                f"there is no package for the preset {preset.name!r}"
                + (f" (the one given is for {others})" if others else "")
                + "; give -c package=s3://BUCKET/PREFIX/DIGEST/, as 'inf2kit package' prints it"
            )
        return EndpointProps(preset=preset, package=package, **self._options_of(preset))

    def stack_name(self, preset: Preset) -> str:
        """The name of one preset's stack, whether it can be deployed or not."""
        return stack_name(preset.name, self._options_of(preset).get("stage", ""))

    def _options_of(self, preset: Preset) -> dict[str, Any]:
        return {**self.options, **self.preset_options.get(preset.name, {})}


def _load_presets(files: list[str]) -> tuple[Preset, ...]:
    """The presets for Neuron that ship with inf2kit, and those of files."""
    shipped = [preset for preset in map(load_preset, preset_names()) if preset.compute.backend == "neuron"]
    own = [load_preset(file if file.endswith(".toml") else f"{file}.toml") for file in files]
    presets: dict[str, Preset] = {}
    for preset in (*shipped, *own):
        if not re.fullmatch(r"[a-zA-Z0-9._-]+", preset.name):
            raise DeploymentError(
                f"the preset {preset.name!r} cannot name a stack; use letters, digits, '.', '_' and '-'"
            )
        if preset.endpoint_name in presets:
            raise DeploymentError(
                f"two presets are named {preset.endpoint_name!r}; rename the file of your own one, "
                "as its name is that of its stack and endpoint"
            )
        presets[preset.endpoint_name] = preset
    return tuple(presets.values())


def _read_packages(
    uris: list[str], manifest_files: list[str], presets: set[str]
) -> dict[str, DeployedPackage]:
    """The packages by preset name."""
    packages: dict[str, DeployedPackage] = {}
    for uri in uris:
        package = DeployedPackage.from_uri(uri, manifest_files=manifest_files)
        name = package.manifest.preset_name
        if name not in presets:
            raise DeploymentError(
                f"{package.uri} is for the preset {name!r}, and there is none of that name"
                f"{suggest(name, presets) or ';'} give its file with -c preset={name}.toml"
            )
        if name in packages:
            raise DeploymentError("two packages are for the same preset; give one for each")
        packages[name] = package
    return packages


def _compile_role_props(values: Mapping[str, Any], options: Mapping[str, Any]) -> CompileRoleProps | None:
    output, secret = values.get("compile_output"), str(values.get("compile_token_secret") or "")
    if not output:
        if secret:
            raise DeploymentError(
                "compile_token_secret needs compile_output, the s3://BUCKET/PREFIX of packages"
            )
        return None
    return CompileRoleProps(
        output=str(output),
        token_secret=secret,
        bucket_owner=options.get("bucket_owner", ""),
        bucket_kms_key_arn=options.get("package_kms_key_arn", ""),
        volume_kms_key_arn=options.get("kms_key_arn", ""),
        subnet_ids=options.get("subnet_ids", ()),
        security_group_ids=options.get("security_group_ids", ()),
    )
