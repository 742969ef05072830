"""Prices and support: what their age makes of them."""

from __future__ import annotations

import datetime as dt

import pytest

from inf2kit import catalog, load_preset
from inf2kit.catalog import prices
from inf2kit.doctor import Status, Surroundings, dates

SHIPPED = prices.shipped().date


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home without refreshed prices."""
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path_factory.mktemp("home")))


def look(today: dt.date, region: str = "us-east-1") -> Surroundings:
    return Surroundings(preset=load_preset("llama2-7b-budget"), region=region, offline=True, today=today)


def test_prices_grow_old() -> None:
    (fresh,) = dates.prices(look(SHIPPED + dt.timedelta(days=10)))
    assert fresh.status is Status.OK
    assert "(estimate)" in fresh.reason
    (old,) = dates.prices(look(SHIPPED + dt.timedelta(days=100)))
    assert (old.status, old.hint) == (Status.ADVICE, "100 days old")
    assert old.command == "inf2kit prices refresh --region us-east-1"


def test_prices_of_another_region() -> None:
    (finding,) = dates.prices(look(SHIPPED, "eu-west-1"))
    assert (finding.status, finding.hint) == (Status.ADVICE, "not those of eu-west-1")


def test_support_ends() -> None:
    first, *_, last = catalog.support_ends()
    before = list(dates.support(look(first.date - dt.timedelta(days=365))))
    assert [finding.status for finding in before] == [Status.OK]
    soon = list(dates.support(look(first.date - dt.timedelta(days=1))))
    assert soon[0].status is Status.ADVICE
    assert soon[0].reason == f"ends on {first.date}, in 1 day: {first.what}"
    after = list(dates.support(look(last.date + dt.timedelta(days=1))))
    assert [finding.status for finding in after] == [Status.ADVICE] * len(catalog.support_ends())
