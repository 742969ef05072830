"""The user's own file of prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from inf2kit.catalog import prices
from inf2kit.errors import DeploymentError

GOOD = 'date = 2026-11-26\nsource = "me"\n[eu-west-1]\n"ml.inf2.xlarge" = 0.99\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    return tmp_path / "prices.toml"


def test_the_users_own_prices_come_first(file: Path) -> None:
    assert prices.current() == prices.shipped()
    file.write_text(GOOD, encoding="utf-8")
    price = prices.hourly_price("ml.inf2.xlarge")
    assert price
    assert (price.usd_per_hour, price.region) == (0.99, "eu-west-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not toml",
        b"\xff\xfe",
        GOOD.encode()[:60],
        GOOD.replace("2026-11-26", '"today"').encode(),
        GOOD.replace("0.99", '"0.99"').encode(),
        b'date = 2026-11-26\nsource = "me"\neu-west-1 = 5\n',
    ],
)
def test_a_damaged_file_is_a_sentence(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(
        DeploymentError, match=r"prices\.toml cannot be read .*; delete it, or refresh it again"
    ):
        prices.current()


def test_a_home_that_is_a_file_has_no_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path / "file"))
    assert prices.current() == prices.shipped()
