"""What instances cost, by the hour and by the token, and the quota that they need."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from inf2kit import catalog
from inf2kit.catalog.prices import hourly_price
from inf2kit.planning import closed_form
from inf2kit.planning.prediction import Prediction, Predictor

HOURS_PER_MONTH = 730
_MILLION = 1e6


@dataclass(frozen=True)
class Cost:
    """The cost of a number of instances; dollars are on demand, without the data that is sent.

    Attributes:
        usd_per_hour: Of all instances.
        usd_per_million_new: Of a million new tokens, if they bear all of the cost.
        usd_per_million_apart: Of a million input tokens and of a million new tokens, if each bears the cost
            of the engines' time that it takes.
        region: The region of the price.
        date: The day of the price.
    """

    usd_per_hour: float
    usd_per_million_new: float
    usd_per_million_apart: tuple[float, float]
    region: str
    date: dt.date

    @property
    def usd_per_month(self) -> float:
        """Of 730 hours."""
        return self.usd_per_hour * HOURS_PER_MONTH

    def usd_per_million_at(self, tokens_per_s: float) -> float:
        """Of a million new tokens where the instances generate so many a second."""
        return self.usd_per_hour / (tokens_per_s * 3600) * _MILLION


def of(
    prediction: Prediction, predictor: Predictor, instance_type: str, region: str | None = None
) -> Cost | None:
    """Return what a prediction's instances cost under its load; None for instances without a price."""
    price = hourly_price(instance_type, region)
    if price is None:
        return None
    per_hour = prediction.instances * price.usd_per_hour
    calls, tokens = (
        prediction.request_throughput.value * 3600,
        prediction.output_token_throughput.value * 3600,
    )
    share = prefill_share(predictor)
    apart = (
        share * per_hour / (calls * predictor.mean_input) * _MILLION,
        (1 - share) * per_hour / tokens * _MILLION,
    )
    return Cost(per_hour, per_hour / tokens * _MILLION, apart, price.region, price.date)


def prefill_share(predictor: Predictor) -> float:
    """The share of an engine's time that prompts take, with all rows live."""
    engine, mean_input, mean_new = predictor.engine, predictor.mean_input, predictor.mean_new
    prefill_s = engine.times.prefill(round(mean_input)) + engine.times.stall_s
    return prefill_s / closed_form.engine_s(engine, mean_input, mean_new)


def quota_code(instance_type: str) -> str | None:
    """The code of the quota of an instance type for endpoints, in Service Quotas."""
    return catalog.quotas().get(instance_type)
