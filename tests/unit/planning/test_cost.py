"""Dollars by the hour and by the token."""

from __future__ import annotations

from pathlib import Path

import pytest

from inf2kit.planning import cost
from inf2kit.planning.cost import Cost
from inf2kit.planning.demand import Demand, Lengths
from inf2kit.planning.prediction import Objectives, Predictor
from inf2kit.planning.times import EngineModel, ServiceTimes
from inf2kit.serving.shapes import StaticShapes

INSTANCE = "ml.inf2.48xlarge"
ENGINE = EngineModel(ServiceTimes((1500,), (0.3,), 0.025, 0.0, 0.03), 8, 32, 55.0)


@pytest.fixture
def price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INF2KIT_HOME", str(tmp_path))
    return tmp_path / "prices.toml"


def cost_at(price: Path, usd: float, rate: float = 1.0, instances: int = 2) -> Cost:
    price.write_text(f'date = 2026-11-26\nsource = "a test"\n[us-east-1]\n"{INSTANCE}" = {usd}\n')
    demand = Demand.of_lengths(Lengths.parse("1500"), Lengths.parse("200"), rate=rate)
    predictor = Predictor(ENGINE, StaticShapes.resolve(8, 4096), demand, Objectives(), seeds=2, calls=300)
    dollars = cost.of(predictor.at_rate(rate, instances), predictor, INSTANCE)
    assert dollars is not None
    return dollars


def test_costs_grow_with_the_price_and_the_instances(price: Path) -> None:
    one = cost_at(price, 10.0)
    two = cost_at(price, 20.0)
    more = cost_at(price, 10.0, instances=4)
    assert (one.usd_per_hour, two.usd_per_hour, more.usd_per_hour) == (20.0, 40.0, 40.0)
    assert two.usd_per_million_new == pytest.approx(2 * one.usd_per_million_new)
    assert more.usd_per_million_new > 1.9 * one.usd_per_million_new
    assert one.usd_per_month == 20.0 * 730


def test_a_token_costs_less_the_more_of_them_there_are(price: Path) -> None:
    costs = [cost_at(price, 10.0, rate).usd_per_million_new for rate in (0.2, 0.6, 1.2)]
    assert costs == sorted(costs, reverse=True)
    dollars = cost_at(price, 10.0)
    assert dollars.usd_per_million_at(100.0) == pytest.approx(20.0 / 3600 / 100 * 1e6)


def test_input_and_new_tokens_bear_the_whole_cost_together(price: Path) -> None:
    dollars = cost_at(price, 10.0)
    each_input, each_new = dollars.usd_per_million_apart
    assert each_input * 1500 + each_new * 200 == pytest.approx(dollars.usd_per_million_new * 200, rel=0.01)


def test_an_instance_without_a_price_has_no_cost_and_no_quota() -> None:
    demand = Demand.of_lengths(Lengths.parse("1500"), Lengths.parse("200"), rate=1.0)
    predictor = Predictor(ENGINE, StaticShapes.resolve(8, 4096), demand, Objectives(), seeds=2, calls=200)
    assert cost.of(predictor.at_rate(1.0, 2), predictor, "local") is None
    assert cost.quota_code("local") is None
    assert cost.quota_code(INSTANCE) == "L-286C98BC"
