"""What ships in code/vendor: pinned, unchanged since it was installed, and for the image's Python."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

import inf2kit
from inf2kit import catalog
from inf2kit.compile import job
from inf2kit.errors import PackageError
from inf2kit.package import code, collect, vendor
from tests.helpers import packages

ROOT = Path(inf2kit.__file__).parents[1]
PYTHON = catalog.image().versions["python"]


def install(site: Path, name: str, version: str, *, python: str = ">=3.8", purelib: bool = True) -> Path:
    """A distribution as pip leaves it; the file of its module."""
    files = {
        f"{name}.py": "value = 1\n",
        f"{name}-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
        ),
        f"{name}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(purelib).lower()}\n",
    }
    record = ""
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content, encoding="utf-8")
        sha256 = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={sha256},{len(content)}\n"
    record += f"{name}-{version}.dist-info/RECORD,,\n{name}-{version}.dist-info/INSTALLER,sha256=x,4\n"
    (site / f"{name}-{version}.dist-info/RECORD").write_text(record, encoding="utf-8")
    return site / f"{name}.py"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python finds distributions in, before its own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_pinned_distribution_ships_with_its_own_files(site: Path) -> None:
    install(site, "foo_pure", "1.0")
    shipped = {path.as_posix() for path in vendor.list_files("foo_pure", "1.0")}
    assert shipped == {"foo_pure.py", "foo_pure-1.0.dist-info/METADATA", "foo_pure-1.0.dist-info/WHEEL"}


def test_another_version_is_refused(site: Path) -> None:
    install(site, "foo_pure", "1.1")
    with pytest.raises(PackageError, match=r"foo_pure 1\.1 is installed, and 1\.0 ships .*==1\.0"):
        vendor.list_files("foo_pure", "1.0")


def test_an_edited_file_and_a_missing_one_are_refused(site: Path) -> None:
    module = install(site, "foo_pure", "1.0")
    module.write_text("value = 2\n", encoding="utf-8")
    sentence = r"foo_pure\.py is not the file that foo_pure 1\.0 was installed with, .*--force-reinstall"
    with pytest.raises(PackageError, match=sentence):
        vendor.list_files("foo_pure", "1.0")
    module.unlink()
    with pytest.raises(PackageError, match=sentence):
        vendor.list_files("foo_pure", "1.0")


def test_a_distribution_for_newer_pythons_than_the_images_is_refused(site: Path) -> None:
    install(site, "foo_pure", "1.0", python=">=3.12")
    with pytest.raises(
        PackageError, match=rf"asks for Python >=3\.12, and the endpoint's image has {PYTHON}"
    ):
        vendor.list_files("foo_pure", "1.0")


def test_a_distribution_with_compiled_parts_is_refused(site: Path) -> None:
    install(site, "foo_pure", "1.0", purelib=False)
    with pytest.raises(PackageError, match="is not pure Python"):
        vendor.list_files("foo_pure", "1.0")


def test_what_ships_is_closed_and_runs_on_the_images_python() -> None:
    """Each package that a vendored one needs there ships too, in a version that it takes."""
    shipped = code.vendored_versions()
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in shipped.items()}
    for name in shipped:
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": ""}
            if needed.marker is None or needed.marker.evaluate(environment):
                version = names.get(re.sub(r"[-_.]+", "-", needed.name).lower())
                assert version, f"{name} needs {needed} on Python {PYTHON}"
                assert needed.specifier.contains(version)


def test_pip_installs_the_same_versions_that_ship_by_their_hashes() -> None:
    extras = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    local = extras["optional-dependencies"]["local"]
    text = (ROOT / "inference/vendor.txt").read_text(encoding="utf-8")
    for name, version in code.vendored_versions().items():
        assert f"{name}=={version}" in local
        assert re.search(rf"^{name}=={version} \\\n    --hash=sha256:[0-9a-f]{{64}}$", text, re.MULTILINE)


def test_the_manifest_says_which_versions_ship(tmp_path: Path) -> None:
    weights = packages.write_weights(tmp_path / "weights")
    contents = collect(inf2kit.load_preset("smollm2-135m-local"), weights)
    assert contents.manifest.vendored == code.vendored_versions()
    names = {name for name in contents.files if name.startswith("code/vendor/")}
    for name, version in contents.manifest.vendored.items():
        assert f"code/vendor/{name}-{version}.dist-info/METADATA" in names
    assert not any(name.endswith("/py.typed") or "/tests/" in name for name in names)


def test_a_job_without_the_packages_it_needs_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where inf2kit is installed without its extra."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(PackageError, match=r"is not installed; install inf2kit with its 'local' extra"):
        job.bundle()


def test_a_job_gets_no_compiled_parts_and_the_vendored_packages_as_data() -> None:
    files = job.bundle()
    assert not [name for name in files if name.endswith((".so", ".pyd", ".pyc"))]
    assert "tomli/__init__.py" in files
    for name, version in code.vendored_versions().items():
        assert f"vendor/{name}-{version}.dist-info/RECORD" in files
