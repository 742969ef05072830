"""The folders of inf2kit: where they are, and who can read them."""

from __future__ import annotations

import resource
import signal
import stat
from pathlib import Path

import pytest

from inf2kit import paths
from inf2kit.errors import LocalEndpointError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_in_the_users_cache_unless_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "own"))
    assert paths.home() == tmp_path / "own"
    monkeypatch.delenv("INF2KIT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert paths.home() == tmp_path / "cache/inf2kit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.home() == Path.home() / ".cache/inf2kit"


def test_a_private_folder_and_the_home_are_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("INF2KIT_HOME", str(home))
    (home / "cloud").mkdir(parents=True)
    home.chmod(0o755)
    (home / "cloud").chmod(0o755)
    paths.make_private(home / "cloud")
    assert (mode(home), mode(home / "cloud")) == (0o700, 0o700)


def test_a_shared_home_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("INF2KIT_HOME", str(shared))
    paths.make_private(shared / "cloud")
    assert (mode(shared), mode(shared / "cloud")) == (0o1777, 0o700)


def test_a_manifest_is_saved_where_a_synth_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    paths.save_manifest("0" * 32, b"{}")
    assert paths.manifest("0" * 32).read_bytes() == b"{}"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    paths.replace_file(path, b"old")
    paths.replace_file(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match=f"File too large: '{path}'"):
            paths.replace_file(path, b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 64])
def test_a_folder_of_an_endpoint_is_in_the_home(name: str) -> None:
    assert paths.endpoint("mine") == paths.endpoints() / "mine"
    with pytest.raises(LocalEndpointError, match="cannot be an endpoint's name"):
        paths.endpoint(name)


@pytest.mark.parametrize("folder", ["", "~nobody-has-this-name/inf2kit"])
def test_a_user_without_a_home_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("INF2KIT_HOME", folder)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", _no_entry)
    with pytest.raises(LocalEndpointError, match="set INF2KIT_HOME to a folder of yours"):
        paths.home()


def _no_entry(number: int) -> None:
    """As in a container whose user is not in /etc/passwd."""
    raise KeyError(number)
